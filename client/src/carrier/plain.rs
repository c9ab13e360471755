//! The token as the first bytes on the TCP connection. Never hides anything: a service that does not
//! encrypt itself is in the clear here.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::deadline::{Deadline, Step};
use crate::error::Error;
use crate::knock::Knock;
use crate::stdio::Input;

pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    knock: &Knock,
    input: &Input,
    deadline: Deadline,
) -> Result<S, Error> {
    deadline.hold(Step::Knock, &knock.at, knock.admit(&mut stream, b"", input)).await??;
    Ok(stream)
}
