//! Carries bytes between ssh and the server until one of them, or a signal, ends it. Never waits for
//! ssh once the server is done, and never ends the answer because ssh has said its last.

use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::signals::{Signal, Signals};
use crate::stdio::{Input, Output, Stdio};

/// How long the answer may pause once ssh has said its last.
const SILENCE: Duration = Duration::from_secs(10);

/// ssh's last words, a disconnect message, lie in the pipe when its SIGHUP comes.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// For close_notify and FIN, where the socket takes them.
const GOODBYE: Duration = Duration::from_millis(100);

/// How a tunnel ended.
#[derive(Debug)]
#[must_use]
pub enum End {
    /// The server was done, and ssh has all it said.
    Server,
    /// ssh was done, and the server said nothing more.
    Silence,
    /// Nobody reads the output any more.
    Reader,
    Signal(Signal),
    /// The output cannot take what came.
    Output(io::Error),
    Lost(io::Error),
}

/// The server's side of a tunnel: how bytes move between it and ssh's pipes.
pub trait Tunnel {
    /// Moves to the server what ssh says, until ssh has said its last.
    fn upward(&self, input: &Input) -> impl Future<Output = io::Result<()>>;

    /// Tells the server that there is no more to come.
    fn close(&self) -> impl Future<Output = io::Result<()>>;

    /// Returns when the server may have said something, or its last.
    fn heard(&self) -> impl Future<Output = io::Result<()>>;

    /// Moves to ssh what the server has said, and breaks where there is no more to come.
    fn downward(&self, output: &Output) -> impl Future<Output = ControlFlow<End>>;
}

/// Carries both directions until the end.
pub async fn pipe(tunnel: &impl Tunnel, stdio: Stdio, signals: &mut Signals) -> End {
    let Stdio { input, output } = stdio;
    let (said_last, ssh_is_done) = watch::channel(false);
    let end = {
        let mut up = pin!(upward(tunnel, &input));
        let mut down = pin!(downward(tunnel, &output, ssh_is_done));
        let mut sent = None;
        loop {
            tokio::select! {
                end = &mut down => break match (end, sent) {
                    // A reset is told once; the other direction then sees what looks like FIN.
                    (End::Server, Some(Err(error))) => End::Lost(error),
                    (end, _) => end,
                },
                result = &mut up, if sent.is_none() => {
                    sent = Some(result);
                    said_last.send_replace(true);
                }
                signal = signals.next() => {
                    if signal == Signal::Hangup && sent.is_none() {
                        let _ = timeout(LAST_WORDS, up).await;
                    }
                    break End::Signal(signal);
                }
            }
        }
    };
    let _ = timeout(GOODBYE, tunnel.close()).await;
    if matches!(end, End::Signal(_)) {
        return end;
    }
    tokio::select! {
        written = output.finish() => match written {
            Err(error) if !reader_is_gone(&error) => End::Output(error),
            _ => end,
        },
        signal = signals.next() => End::Signal(signal),
    }
}

/// From ssh to the server; at ssh's end only this direction is closed.
async fn upward(tunnel: &impl Tunnel, input: &Input) -> io::Result<()> {
    let result = match tunnel.upward(input).await {
        Ok(()) => tunnel.close().await,
        lost => lost,
    };
    match result {
        // A server that has closed before takes no more, which is not a loss: the other direction
        // knows how it ended.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// From the server to ssh.
async fn downward(
    tunnel: &impl Tunnel,
    output: &Output,
    mut ssh_is_done: watch::Receiver<bool>,
) -> End {
    loop {
        tokio::select! {
            biased;
            heard = tunnel.heard() => if let Err(error) = heard {
                return End::Lost(error);
            },
            () = output.gone() => return End::Reader,
            () = silence(&mut ssh_is_done) => return End::Silence,
        }
        if let ControlFlow::Break(end) = tunnel.downward(output).await {
            return end;
        }
    }
}

fn reader_is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

async fn silence(ssh_is_done: &mut watch::Receiver<bool>) {
    // It cannot fail: the sender outlives both directions.
    let _ = ssh_is_done.wait_for(|done| *done).await;
    sleep(SILENCE).await;
}
