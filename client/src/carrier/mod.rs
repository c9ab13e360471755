//! How the knock and the tunnel travel over a TCP connection. Decides which carrier is used and with
//! what trust; never falls back from one to another by itself.

mod hello;
mod overhear;
mod plain;
mod script;
mod tls;
mod verify;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

pub use hello::Hello;
pub use overhear::Overhear;
pub use tls::Tls;
pub use verify::Trust;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::knock::Knock;
use crate::stdio::Input;

/// A carrier that is ready to use: all that can fail on this machine alone has been done.
pub enum Ready {
    Plain,
    Tls(Tls),
    Hello(Hello),
}

/// A stream on which the server has admitted us: as it was, or TLS over what was put on it.
pub enum Admitted<P, T = P> {
    Plain(P),
    Tls(Box<TlsStream<T>>),
    Hello(Box<TlsStream<Overhear<T>>>),
}

impl Ready {
    /// Knocks by way of this carrier; what lies ready in `input` goes along. Where it is TLS, that is
    /// spoken over what `below` makes of the stream.
    pub async fn open<P, T>(
        &self,
        stream: P,
        below: impl FnOnce(P) -> T,
        knock: &Knock,
        input: &Input,
        deadline: Deadline,
    ) -> Result<Admitted<P, T>, Error>
    where
        P: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        match self {
            Ready::Plain => plain::open(stream, knock, input, deadline).await.map(Admitted::Plain),
            Ready::Tls(tls) => {
                let stream = tls.open(below(stream), knock, input, deadline).await?;
                Ok(Admitted::Tls(Box::new(stream)))
            }
            Ready::Hello(hello) => {
                let stream = hello.open(below(stream), knock, input, deadline).await?;
                Ok(Admitted::Hello(Box::new(stream)))
            }
        }
    }
}
