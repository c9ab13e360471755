//! Which route a visitor takes, where that depends on what external identifiers say: they are asked while
//! everything else that may decide a connection goes on. Judges no knock: that was done before.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::decide::Rest;
use crate::early::{Early, WebsiteFirst};
use crate::front::{Front, Glance};
use crate::helper::{Asker, Helper, Question, Reply, SHOWN};
use crate::places::Undecided;
use crate::policy::Policy;
use crate::route::{Answered, Answers, Choice, Route, Seen, Still};
use crate::stage::Stage;

/// Questions that a connection may cost: beyond this somebody sends byte by byte to keep helpers busy.
const MOST_QUESTIONS: u32 = 64;

/// One `[identifier.NAME]`.
#[derive(Debug)]
pub struct Identifier {
    pub name: String,
    pub helper: Helper,
    /// For one question.
    pub timeout: Duration,
    pub enabled: bool,
}

/// What came of it.
pub enum Inquired<'a> {
    Route(Option<&'a Route>),
    WebsiteFirst(WebsiteFirst),
    ClientReset,
}

/// Who is asked about.
pub struct Visitor<'a> {
    pub stage: &'a Stage,
    pub seen: &'a Seen,
    pub rest: Rest,
}

pub async fn inquire<'a>(
    policy: &'a Policy,
    visitor: Visitor<'_>,
    front: &mut Front,
    early: &mut Early,
    place: &mut Undecided,
) -> Inquired<'a> {
    let Visitor { stage, seen, rest: Rest { mut still, until } } = visitor;
    let mut answers = Answers::default();
    let mut left = MOST_QUESTIONS;
    loop {
        let facts = stage.facts(seen, front.seen(), &answers);
        let step = match policy.routes.choose(&facts, still) {
            Choice::Found(route) => return Inquired::Route(route),
            Choice::Open(want) => Step::Look(want),
            Choice::Ask(identifier) if left == 0 => {
                answers.note(identifier, Answered::No);
                continue;
            }
            Choice::Ask(identifier) => Step::Ask(identifier),
        };
        let stepping = async {
            match step {
                Step::Look(want) => Stepped::Looked(front.look(want).await),
                Step::Ask(number) => {
                    let asked = policy.identifiers.get(number);
                    Stepped::Answered(number, ask(asked, front.seen()).await)
                }
            }
        };
        tokio::select! {
            biased;
            stepped = stepping => match stepped {
                Stepped::Looked(Ok(Glance::Enough)) => {}
                Stepped::Looked(Ok(Glance::NoMore)) => still = Still::Answers,
                Stepped::Looked(Err(_)) => return Inquired::ClientReset,
                Stepped::Answered(number, answered) => {
                    left -= 1;
                    answers.note(number, answered);
                }
            },
            first = early.website_first() => return Inquired::WebsiteFirst(first),
            () = place.hurried() => still = Still::Nothing,
            () = sleep_until(until) => still = Still::Nothing,
        }
    }
}

enum Step {
    Look(usize),
    Ask(usize),
}

enum Stepped {
    Looked(std::io::Result<Glance>),
    Answered(usize, Answered),
}

async fn ask(identifier: Option<&Identifier>, bytes: &[u8]) -> Answered {
    let Some(identifier) = identifier else { return Answered::No };
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let question = Question::Bytes(shown.to_vec());
    match identifier.helper.ask(question, Asker::Stranger, identifier.timeout).await {
        Some(Reply::Yes) => Answered::Yes,
        Some(Reply::More(want)) if shown.len() < SHOWN => {
            Answered::Wants(want.unwrap_or(0).clamp(shown.len() + 1, SHOWN))
        }
        Some(Reply::No | Reply::More(_)) | None => Answered::No,
    }
}
