//! How the knock and the tunnel travel over a TCP connection. Decides which carrier is used and with
//! what trust; never falls back from one to another by itself.

mod hello;
mod overhear;
mod plain;
mod script;
mod tls;
mod verify;

use tokio::net::TcpStream;

pub use hello::Hello;
pub use overhear::Overhear;
pub use tls::Tls;
pub use verify::Trust;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::knock::Knock;
use crate::records::Records;
use crate::stdio::Input;

/// A carrier that is ready to use: all that can fail on this machine alone has been done.
pub enum Ready {
    Plain,
    Tls(Tls),
    Hello(Hello),
}

/// A stream on which the server has admitted us.
pub enum Admitted {
    Plain(TcpStream),
    Tls(Box<Records<TcpStream>>),
    Hello(Box<Records<Overhear<TcpStream>>>),
}

impl Ready {
    /// Knocks by way of this carrier; what lies ready in `input` goes along.
    pub async fn open(
        self,
        tcp: TcpStream,
        knock: &Knock,
        input: &Input,
        deadline: Deadline,
    ) -> Result<Admitted, Error> {
        match self {
            Ready::Plain => plain::open(tcp, knock, input, deadline).await.map(Admitted::Plain),
            Ready::Tls(tls) => {
                let stream = tls.open(tcp, knock, input, deadline).await?;
                Ok(Admitted::Tls(Box::new(Records::new(stream))))
            }
            Ready::Hello(hello) => {
                let stream = hello.open(tcp, knock, input, deadline).await?;
                Ok(Admitted::Hello(Box::new(Records::new(stream))))
            }
        }
    }
}
