//! Shows the token and reads whether it admitted us. Never passes on a byte of what the server says
//! before its acknowledgement.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use postern_shared::hello::{ClientHello, HostName};
use postern_shared::knock::{
    Carrier, CarrierKey, ClientKey, Header, HelloToken, Intent, Kid, Status, Token, ack,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::address::Address;
use crate::answer::{Answer, Heard};
use crate::error::Error;
use crate::profile::{Alpn, Profile, Service};
use crate::stdio::Input;

/// What ssh has written by now travels with the token, up to this many bytes: its banner, and its
/// first packet where it does not wait for the server's.
const FIRST_FLIGHT: usize = 4 * 1024;

/// For the acknowledgement. posternd gives a service 5 s to answer before it reports it down, and
/// that report must come before [`LINE_BREAK`] spoils the stream.
const PATIENCE: Duration = Duration::from_secs(6);

/// Makes a website answer that takes the letters for the beginning of a request; its answer tells
/// the time.
const LINE_BREAK: &[u8] = b"\r\n\r\n";

/// For that answer, and for the rest of one that came by itself.
const EXPLANATION: Duration = Duration::from_secs(2);

/// Enough for the head of any error page.
const MAX_HEAD: usize = 4 * 1024;

/// Who knocks where for what, and all that it takes.
#[derive(Clone)]
pub struct Knock {
    pub at: Address,
    pub carrier: Carrier,
    pub service: Service,
    intent: Intent,
    kid: Kid,
    /// In the place of the time.
    number: Option<u32>,
    locator: CarrierKey,
    key: CarrierKey,
    ack: CarrierKey,
}

impl Knock {
    pub fn new(
        profile: &Profile,
        key: &ClientKey,
        at: Address,
        carrier: Carrier,
        service: Service,
        intent: Intent,
    ) -> Knock {
        Knock::of(profile, (profile.kid, key), at, carrier, service, intent)
    }

    /// For the lanes of a pool, each of which must be [`numbered`](Self::numbered).
    pub fn of_pool(
        profile: &Profile,
        pool: Kid,
        key: &ClientKey,
        at: Address,
        carrier: Carrier,
        service: Service,
    ) -> Knock {
        Knock::of(profile, (pool, key), at, carrier, service, Intent::Accept)
    }

    fn of(
        profile: &Profile,
        (kid, key): (Kid, &ClientKey),
        at: Address,
        carrier: Carrier,
        service: Service,
        intent: Intent,
    ) -> Knock {
        let server = &profile.server_id;
        Knock {
            at,
            carrier,
            service,
            intent,
            kid,
            number: None,
            locator: profile.locator.on(carrier, server),
            key: key.on(carrier, server),
            ack: key.ack(server),
        }
    }

    /// The same with a number that counts once instead of the time.
    pub fn numbered(&self, number: u32) -> Knock {
        Knock { number: Some(number), ..self.clone() }
    }

    /// Knocks on a stream that has reached the server, with what lies ready in `input` in the same
    /// write, and returns when the server has admitted us. `binding` ties the token to the stream.
    pub async fn admit<S>(&self, stream: &mut S, binding: &[u8], input: &Input) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let token = self.token(binding, true)?;
        let mut first = token.letters().to_vec();
        first.extend(input.ready(FIRST_FLIGHT));

        let mut heard = Heard::default();
        heard.ask(stream, &first).await;
        heard.listen(stream, PATIENCE, ack::LENGTH, |_| false).await;
        if let Some(status) = self.status(&heard, &token) {
            return self.obey(status);
        }

        if heard.is_nothing() {
            heard.ask(stream, LINE_BREAK).await;
        }
        heard.listen(stream, EXPLANATION, MAX_HEAD, is_explained).await;
        match self.status(&heard, &token) {
            // By now the stream is spoiled, or read beyond the acknowledgement.
            Some(Status::Ok) => Err(Error::Late { at: self.at.clone() }),
            Some(status) => self.obey(status),
            None => Err(self.not_admitted(heard.judge(Timestamp::now()))),
        }
    }

    fn not_admitted(&self, answer: Answer) -> Error {
        Error::NotAdmitted {
            at: self.at.clone(),
            carrier: self.carrier,
            service: self.service.name.clone(),
            answer,
        }
    }

    /// Goes in on a stream whose hello, with this random, knocked and was recognised; what lies ready in
    /// `input` goes along.
    pub async fn enter<S>(
        &self,
        stream: &mut S,
        random: &[u8; 32],
        input: &Input,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (nonce, _) = random.split_first_chunk().expect("32 bytes");
        let mut heard = Heard::default();
        heard.ask(stream, &input.ready(FIRST_FLIGHT)).await;
        heard.listen(stream, PATIENCE, ack::LENGTH, |_| false).await;
        match heard.bytes.first_chunk().and_then(|bytes| Status::open(bytes, &self.ack, nonce)) {
            Some(status) => self.obey(status),
            None => Err(Error::Lost {
                at: self.at.clone(),
                cause: io::Error::other(format!(
                    "recognised, but then {}",
                    heard.judge(Timestamp::now())
                )),
            }),
        }
    }

    /// Does on a stream whose hello was not recognised what a visitor of the website does: fetches its
    /// first page. Answers how the knock failed.
    pub async fn visit<S>(&self, stream: &mut S, name: &HostName, alpn: Alpn) -> Error
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut heard = Heard::default();
        heard.ask(stream, &alpn.get(name)).await;
        heard.listen(stream, EXPLANATION, MAX_HEAD, is_explained).await;
        let answer = match (alpn, heard.is_nothing()) {
            (Alpn::H2, false) => Answer::Website { skew: None },
            (Alpn::H2 | Alpn::Http1, _) => heard.judge(Timestamp::now()),
        };
        self.not_admitted(answer)
    }

    /// The session id of a hello with this random, before it is tagged.
    pub fn untagged(&self, random: &[u8; 32]) -> [u8; 32] {
        HelloToken::untagged(&self.header(true), random, &self.locator)
    }

    /// The session id with which this hello knocks.
    pub fn tagged(&self, untagged: &ClientHello) -> Option<[u8; 32]> {
        HelloToken::tagged(untagged, &self.key)
    }

    pub fn is_tagged(&self, hello: &ClientHello) -> bool {
        HelloToken::of(hello).is_some_and(|token| token.verify(hello, &self.key).into())
    }

    pub fn ack_key(&self) -> &CarrierKey {
        &self.ack
    }

    /// Knocks on a stream that somebody else will read: without asking for an acknowledgement, which
    /// would be in the way there.
    pub async fn drop_off<S>(&self, stream: &mut S) -> Result<(), Error>
    where
        S: AsyncWrite + Unpin,
    {
        let token = self.token(b"", false)?;
        stream
            .write_all(&token.letters())
            .await
            .map_err(|cause| Error::Lost { at: self.at.clone(), cause })
    }

    fn token(&self, binding: &[u8], ack: bool) -> Result<Token, Error> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| Error::Local("the system has no randomness for a knock".to_owned()))?;
        Ok(Token::seal(&self.header(ack), nonce, &self.locator, &self.key, binding))
    }

    fn header(&self, ack: bool) -> Header {
        Header {
            ack,
            intent: self.intent,
            kid: self.kid,
            // A clock outside of what fits is wrong whatever is sent.
            time: self
                .number
                .unwrap_or_else(|| u32::try_from(Timestamp::now().as_second()).unwrap_or(0)),
            service: self.service.number,
        }
    }

    fn status(&self, heard: &Heard, token: &Token) -> Option<Status> {
        Status::open(heard.bytes.first_chunk()?, &self.ack, token.nonce())
    }

    fn obey(&self, status: Status) -> Result<(), Error> {
        let at = self.at.clone();
        match status {
            Status::Ok => Ok(()),
            Status::UpstreamDown => {
                Err(Error::ServiceDown { at, service: self.service.name.clone() })
            }
            Status::Busy => Err(Error::Busy { at }),
            Status::Denied => Err(Error::Denied { at, service: self.service.name.clone() }),
        }
    }
}

/// Whether this is a whole acknowledgement or the whole head of an HTTP response.
fn is_explained(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"HTTP/") {
        bytes.windows(LINE_BREAK.len()).any(|window| window == LINE_BREAK)
    } else {
        bytes.len() >= ack::LENGTH
    }
}
