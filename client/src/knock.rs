//! Shows the token and reads whether it admitted us. Never passes on a byte of what the server says
//! before its acknowledgement.

use std::time::Duration;

use jiff::Timestamp;
use postern_shared::knock::{
    Carrier, CarrierKey, ClientKey, Header, Intent, Kid, Status, Token, ack,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::address::Address;
use crate::answer::Heard;
use crate::error::Error;
use crate::profile::{Profile, Service};
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
pub struct Knock {
    pub at: Address,
    pub carrier: Carrier,
    pub service: Service,
    kid: Kid,
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
    ) -> Knock {
        let server = &profile.server_id;
        Knock {
            at,
            carrier,
            service,
            kid: profile.kid,
            locator: profile.locator.on(carrier, server),
            key: key.on(carrier, server),
            ack: key.ack(server),
        }
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
            None => Err(Error::NotAdmitted {
                at: self.at.clone(),
                carrier: self.carrier,
                service: self.service.name.clone(),
                answer: heard.judge(Timestamp::now()),
            }),
        }
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
        let header = Header {
            ack,
            intent: Intent::Pipe,
            kid: self.kid,
            // A clock outside of what fits is wrong whatever is sent.
            time: u32::try_from(Timestamp::now().as_second()).unwrap_or(0),
            service: self.service.number,
        };
        Ok(Token::seal(&header, nonce, &self.locator, &self.key, binding))
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
