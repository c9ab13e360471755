//! Listens for the server's first words and judges what they are when they are no acknowledgement.
//! Never shows a byte of them: they are a stranger's text on its way to a terminal.

use std::fmt;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A difference of clocks that is worth naming; the server allows twice as much.
const SKEW: i64 = 30;

/// The server's first words so far, and how they ended if they did.
#[derive(Debug, Default)]
pub struct Heard {
    pub bytes: Vec<u8>,
    end: Option<io::Result<()>>,
}

/// What the other side did in place of admitting us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Silence,
    Closed,
    Reset,
    /// A web server, with its clock less ours in seconds where it told the time.
    Website {
        skew: Option<i64>,
    },
    Foreign,
}

impl Heard {
    /// Neither a byte nor an end.
    pub fn is_nothing(&self) -> bool {
        self.bytes.is_empty() && self.end.is_none()
    }

    /// Sends something to be answered; where that fails, no answer will come.
    pub async fn ask<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, question: &[u8]) {
        let sending = async {
            stream.write_all(question).await?;
            stream.flush().await
        };
        if let Err(error) = sending.await {
            self.end.get_or_insert(Err(error));
        }
    }

    /// Listens for `patience` at most, and no longer than until the end, `limit` bytes in all, or
    /// `enough` of them. Takes no byte beyond these from the stream.
    pub async fn listen<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        patience: Duration,
        limit: usize,
        enough: fn(&[u8]) -> bool,
    ) {
        let Heard { bytes, end } = self;
        let listening = async {
            while end.is_none() && bytes.len() < limit && !enough(bytes) {
                let room = u64::try_from(limit - bytes.len()).unwrap_or(u64::MAX);
                match (&mut *stream).take(room).read_buf(bytes).await {
                    Ok(0) => *end = Some(Ok(())),
                    Ok(_) => {}
                    Err(error) => *end = Some(Err(error)),
                }
            }
        };
        // Whatever came in time is kept.
        let _ = timeout(patience, listening).await;
    }

    /// What all this amounts to, if it was no acknowledgement.
    pub fn judge(&self, now: Timestamp) -> Answer {
        if self.bytes.starts_with(b"HTTP/") {
            let skew = date(&self.bytes).map(|date| date.as_second() - now.as_second());
            return Answer::Website { skew };
        }
        match &self.end {
            _ if !self.bytes.is_empty() => Answer::Foreign,
            None => Answer::Silence,
            Some(Ok(())) => Answer::Closed,
            Some(Err(_)) => Answer::Reset,
        }
    }
}

impl Answer {
    /// By how many seconds our clock is behind the server's, if by enough to matter.
    pub fn skew(&self) -> Option<i64> {
        match self {
            Answer::Website { skew } => skew.filter(|skew| skew.abs() > SKEW),
            Answer::Silence | Answer::Closed | Answer::Reset | Answer::Foreign => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Answer::Silence => "no answer to the knock",
            Answer::Closed => "it closed the connection",
            Answer::Reset => "it reset the connection",
            Answer::Website { .. } => "a website answered",
            Answer::Foreign => "it answered in another protocol",
        })
    }
}

/// The Date of an HTTP response (RFC 9110, section 6.6.1), whose form is also one of RFC 2822's.
fn date(response: &[u8]) -> Option<Timestamp> {
    let head = response.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let (_, value) = head
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_at_checked(b"date:".len()))
        .find(|(name, _)| name.eq_ignore_ascii_case(b"date:"))?;
    rfc2822::DateTimeParser::new().parse_timestamp(value.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nDate: no";

    fn heard(bytes: &[u8], end: Option<io::Result<()>>, second: i64) -> Answer {
        let bytes = bytes.to_vec();
        Heard { bytes, end }.judge(Timestamp::from_second(second).expect("within range"))
    }

    #[test]
    fn a_websites_clock_is_read() {
        for (second, skew) in [
            (784_111_777, None),
            (784_111_807, None),
            (784_111_808, Some(-31)),
            (784_108_177, Some(3600)),
        ] {
            assert_eq!(heard(RESPONSE, None, second).skew(), skew, "{second}");
        }
    }

    #[test]
    fn only_a_head_has_a_date() {
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT"[..],
            b"HTTP/1.1 400 Bad Request\r\nDate: yesterday\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\nDate:",
            b"HTTP/",
        ] {
            assert_eq!(heard(text, None, 0), Answer::Website { skew: None });
        }
    }

    #[test]
    fn every_other_answer_has_its_name() {
        let reset = Err(io::ErrorKind::ConnectionReset.into());
        assert_eq!(heard(b"", None, 0), Answer::Silence);
        assert_eq!(heard(b"", Some(Ok(())), 0), Answer::Closed);
        assert_eq!(heard(b"", Some(reset), 0), Answer::Reset);
        assert_eq!(heard(b"SSH-2.0-x\r\n", None, 0), Answer::Foreign);
    }

    #[tokio::test(start_paused = true)]
    async fn no_byte_beyond_the_limit_is_taken() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"0123456789").await.expect("room");
        let mut heard = Heard::default();
        heard.listen(&mut ours, Duration::from_secs(1), 4, |_| false).await;
        assert_eq!(heard.bytes, b"0123");
        heard.listen(&mut ours, Duration::from_secs(1), 64, |_| false).await;
        assert_eq!(heard.bytes, b"0123456789", "what came before patience ended is kept");
        assert!(heard.end.is_none());
    }
}
