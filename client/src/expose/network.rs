//! Tells when the network may be another one: the machine slept, or an interface, address or route changed
//! (rtnetlink(7)). Says only that, and not oftener than is of use; what follows from it is for others.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use postern_relay::sys::on_reactor;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How often the clocks are compared.
const CHECK: Duration = Duration::from_secs(1);

/// By how much one clock must have run ahead to be a sleep.
const SLEPT: Duration = Duration::from_millis(500);

/// A change comes as a burst of messages, and the last of them may be the one that matters.
const BURST: Duration = Duration::from_millis(200);

/// Read at once, so that a storm of them does not hold everything up.
const MOST_MESSAGES: usize = 1024;

/// Links, addresses and routes of both families (linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE,
/// _IPV6_IFADDR, _IPV6_ROUTE).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Watches for as long as it lives.
pub(super) struct Network {
    news: watch::Receiver<()>,
    watcher: JoinHandle<()>,
}

impl Network {
    /// To be called within a set of local tasks.
    pub(super) fn watch() -> Network {
        let (tell, news) = watch::channel(());
        // Where the kernel tells nothing, sleep is noticed all the same.
        let watcher = spawn_local(follow(changes().ok(), tell));
        Network { news, watcher }
    }

    /// Waits for the next change.
    pub(super) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn follow(changes: Option<AsyncFd<OwnedFd>>, tell: watch::Sender<()>) {
    let mut asleep = asleep();
    loop {
        tokio::select! {
            () = woken(&mut asleep) => {}
            () = heard(changes.as_ref()) => {}
        }
        tell.send_replace(());
        sleep(BURST).await;
        if changes.as_ref().is_some_and(drain) {
            tell.send_replace(());
        }
    }
}

fn changes() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    on_reactor(socket, Interest::READABLE)
}

async fn heard(socket: Option<&AsyncFd<OwnedFd>>) {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.readable().await {
            Ok(mut ready) => {
                let any = drain(socket);
                ready.clear_ready();
                // What a burst left behind has been told already.
                if any {
                    return;
                }
            }
            // An error of the reactor itself must not become a spin.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Whether there was anything. What the messages say does not matter; one that was lost (ENOBUFS) is a
/// change as well.
fn drain(socket: &AsyncFd<OwnedFd>) -> bool {
    let mut message = [0; 4096];
    let mut any = false;
    for _ in 0..MOST_MESSAGES {
        match recv(socket, &mut message[..], RecvFlags::empty()) {
            Ok((_, 1..)) | Err(Errno::NOBUFS) => any = true,
            Err(Errno::INTR) => {}
            Ok((_, 0)) | Err(_) => break,
        }
    }
    any
}

async fn woken(asleep_before: &mut Duration) {
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let now = asleep();
        let slept = now.saturating_sub(*asleep_before);
        *asleep_before = now;
        if slept > SLEPT {
            return;
        }
    }
}

/// For how long the machine has slept since it was started: the one clock goes on meanwhile
/// (clock_gettime(2)).
fn asleep() -> Duration {
    let span = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        let (seconds, nanos) = (u64::try_from(tv_sec), u32::try_from(tv_nsec));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    };
    let monotonic = span(ClockId::Monotonic);
    span(ClockId::Boottime).saturating_sub(monotonic)
}
