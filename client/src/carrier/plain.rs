//! The token as the first bytes on the TCP connection. Never hides anything: a service that does not
//! encrypt itself is in the clear here.

use tokio::net::TcpStream;

use crate::deadline::{Deadline, Step};
use crate::error::Error;
use crate::knock::Knock;
use crate::stdio::Input;

pub(super) async fn open(
    mut tcp: TcpStream,
    knock: &Knock,
    input: &Input,
    deadline: Deadline,
) -> Result<TcpStream, Error> {
    deadline.hold(Step::Knock, &knock.at, knock.admit(&mut tcp, b"", input)).await??;
    Ok(tcp)
}
