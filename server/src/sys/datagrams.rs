//! Datagrams by the batch (recvmmsg(2), sendmmsg(2)), and which of our addresses they come to or leave
//! from (IP_PKTINFO, ip(7)): neither rustix nor socket2 do that. Decides nothing about them.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use socket2::{SockAddr, SockAddrStorage};

/// Datagrams that one call moves. More gained nothing where they were many, and take longer from others.
const MOST: usize = 32;

/// More than the longest datagram, so that none is cut short. Of each only pages that were used take
/// memory.
const SLOT: usize = 64 * 1024;

/// Between whom a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    /// The address of ours that the peer sent it to.
    pub(crate) local: IpAddr,
}

/// Datagrams that were received.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    /// `None` also where the kernel did not tell.
    ends: Vec<Option<Ends>>,
}

/// What became of datagrams that were to be sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    /// Why the rest was not. One that is too long for the way is dropped without that.
    pub(crate) error: Option<io::Error>,
}

/// Room for one IP_PKTINFO or IPV6_PKTINFO, aligned as cmsg(3) wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            bytes: vec![0; MOST * SLOT],
            lengths: Vec::with_capacity(MOST),
            ends: Vec::with_capacity(MOST),
        }
    }

    /// Takes what a connected socket has; at least one, or an error.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.fill(socket, false)
    }

    /// The same, with whence each comes and where to. The socket was told to
    /// ([`tell_local_address`]).
    pub(crate) fn receive_from(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.fill(socket, true)
    }

    fn fill(&mut self, socket: BorrowedFd<'_>, with_ends: bool) -> io::Result<()> {
        self.lengths.clear();
        self.ends.clear();
        let mut names: [SockAddrStorage; MOST] = std::array::from_fn(|_| SockAddrStorage::zeroed());
        let mut controls = [Control([0; 64]); MOST];
        // SAFETY: these are C structures of numbers and pointers, for which zeros are valid.
        let (mut heads, mut parts): ([libc::mmsghdr; MOST], [libc::iovec; MOST]) =
            unsafe { zeroed() };
        let places = self.bytes.chunks_exact_mut(SLOT).zip(&mut names).zip(&mut controls);
        for ((head, part), ((slot, name), control)) in heads.iter_mut().zip(&mut parts).zip(places)
        {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
            if with_ends {
                head.msg_hdr.msg_name = (&raw mut *name).cast();
                head.msg_hdr.msg_namelen = name.size_of();
                head.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                head.msg_hdr.msg_controllen = control.0.len() as _;
            }
        }
        // SAFETY: each head names a part, which is a slot of `bytes`, and where it names them a name and
        // a control buffer, all with their own sizes; all outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                MOST as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (head, name) in heads.iter().zip(names).take(count) {
            self.lengths.push(usize::try_from(head.msg_len).unwrap_or(SLOT).min(SLOT));
            let ends = with_ends.then(|| {
                // SAFETY: the kernel wrote an address of this length into it.
                let name = unsafe { SockAddr::new(name, head.msg_hdr.msg_namelen) };
                Some(Ends { peer: name.as_socket()?, local: local_address(&head.msg_hdr)? })
            });
            self.ends.push(ends.flatten());
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there may well be more.
    pub(crate) fn is_full(&self) -> bool {
        self.len() == MOST
    }

    pub(crate) fn get(&self, number: usize) -> Option<&[u8]> {
        let length = *self.lengths.get(number)?;
        let start = number * SLOT;
        self.bytes.get(start..start + length)
    }

    /// Datagrams that came one after the other from the same peer, in the order in which they came.
    /// Those of whose ends nothing is known are left out.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Ends, Range<usize>)> {
        let mut from = 0;
        self.ends.chunk_by(|one, next| one == next).filter_map(move |run| {
            let range = from..from + run.len();
            from = range.end;
            run.first().copied().flatten().map(|ends| (ends, range))
        })
    }

    /// Sends these of them, to `ends` or on a connected socket. Stops at the first that cannot be, but for
    /// its length.
    pub(crate) fn send(
        &self,
        which: Range<usize>,
        socket: BorrowedFd<'_>,
        ends: Option<&Ends>,
    ) -> Sent {
        let name = ends.map(|ends| SockAddr::from(ends.peer));
        let mut control = Control([0; 64]);
        let control_len = ends.map_or(0, |ends| say_local_address(&mut control, ends.local));
        // SAFETY: as above.
        let (mut heads, mut parts): ([libc::mmsghdr; MOST], [libc::iovec; MOST]) =
            unsafe { zeroed() };
        let datagrams = which.clone().filter_map(|number| self.get(number));
        let mut count = 0;
        for ((head, part), datagram) in heads.iter_mut().zip(&mut parts).zip(datagrams) {
            part.iov_base = datagram.as_ptr().cast_mut().cast();
            part.iov_len = datagram.len();
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
            if let Some(name) = &name {
                head.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
                head.msg_hdr.msg_namelen = name.len();
                head.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                head.msg_hdr.msg_controllen = control_len as _;
            }
            count += 1;
        }
        let mut sent = Sent::default();
        let mut left = heads.get_mut(..count).unwrap_or_default();
        while !left.is_empty() {
            // SAFETY: as above; the kernel reads datagrams, name and control buffer, and writes no more
            // than the lengths sent.
            let done = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            let skip = match usize::try_from(done) {
                Ok(done) => {
                    let lengths = left.iter().take(done).map(|head| u64::from(head.msg_len));
                    sent.datagrams += lengths.len() as u64;
                    sent.bytes += lengths.sum::<u64>();
                    done
                }
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => 0,
                    error if error.raw_os_error() == Some(libc::EMSGSIZE) => 1,
                    error => {
                        sent.error = Some(error);
                        break;
                    }
                },
            };
            left = left.get_mut(skip..).unwrap_or_default();
        }
        sent
    }
}

/// From now on each datagram comes with the address that it was sent to.
pub(crate) fn tell_local_address(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let (level, option) = if is_v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the whole call, and the option value is a c_int whose address
    // and size are passed along.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says of where a datagram came to.
fn local_address(head: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the head's control buffer and set its length; what the macros of
    // cmsg(3) answer lies within that, and a message of one of these types holds the structure read.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(head);
        while let Some(one) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (one.cmsg_level, one.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let bits = u32::from_be(info.ipi_spec_dst.s_addr);
                    return Some(Ipv4Addr::from_bits(bits).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => message = libc::CMSG_NXTHDR(head, message),
            }
        }
    }
    None
}

/// Says from which of our addresses to send, by whatever interface; answers how long that is.
fn say_local_address(control: &mut Control, local: IpAddr) -> usize {
    // SAFETY: a buffer that is all of the head's control fits a message of either structure, so that the
    // first one lies in it with its data.
    unsafe {
        let mut head: libc::msghdr = zeroed();
        head.msg_control = control.0.as_mut_ptr().cast();
        head.msg_controllen = control.0.len() as _;
        let Some(message) = libc::CMSG_FIRSTHDR(&raw const head).as_mut() else { return 0 };
        let data = libc::CMSG_DATA(message);
        let size = match local {
            IpAddr::V4(local) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = local.to_bits().to_be();
                (message.cmsg_level, message.cmsg_type) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
                data.cast::<libc::in_pktinfo>().write_unaligned(info);
                size_of::<libc::in_pktinfo>()
            }
            IpAddr::V6(local) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = local.octets();
                (message.cmsg_level, message.cmsg_type) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
                data.cast::<libc::in6_pktinfo>().write_unaligned(info);
                size_of::<libc::in6_pktinfo>()
            }
        } as libc::c_uint;
        message.cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_SPACE(size) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn bound(address: &str) -> UdpSocket {
        UdpSocket::bind(address).expect("bind")
    }

    fn received(batch: &Batch) -> Vec<&[u8]> {
        (0..batch.len()).filter_map(|number| batch.get(number)).collect()
    }

    /// On a socket that is bound to all addresses, which is asked at one of them.
    #[test]
    fn answers_leave_from_where_the_question_came_to() {
        let families = [("0.0.0.0:0", "127.0.0.1:0", "127.0.0.5"), ("[::]:0", "[::1]:0", "::1")];
        let mut tried = 0;
        for (all, own, asked) in families {
            let (Ok(server), Ok(client)) = (UdpSocket::bind(all), UdpSocket::bind(own)) else {
                continue;
            };
            tell_local_address(server.as_fd(), all.starts_with('[')).expect("set");
            let port = server.local_addr().expect("bound").port();
            let to = SocketAddr::new(asked.parse().expect("an address"), port);
            for datagram in [&b"one"[..], b"", b"three"] {
                client.send_to(datagram, to).expect("sent");
            }
            let mut batch = Batch::new();
            batch.receive_from(server.as_fd()).expect("received");
            assert_eq!(received(&batch), [&b"one"[..], b"", b"three"]);
            let ends = Ends { peer: client.local_addr().expect("bound"), local: to.ip() };
            assert_eq!(batch.runs().collect::<Vec<_>>(), [(ends, 0..3)]);

            let sent = batch.send(1..3, server.as_fd(), Some(&ends));
            assert_eq!((sent.datagrams, sent.bytes), (2, 5));
            let mut buffer = [0; 16];
            assert_eq!(client.recv_from(&mut buffer).expect("received"), (0, to));
            assert_eq!(client.recv_from(&mut buffer).expect("received"), (5, to));
            tried += 1;
        }
        assert!(tried > 0);
    }

    #[test]
    fn runs_are_of_one_peer() {
        let server = bound("127.0.0.1:0");
        tell_local_address(server.as_fd(), false).expect("set");
        let to = server.local_addr().expect("bound");
        let [a, b] = [bound("127.0.0.1:0"), bound("127.0.0.1:0")];
        for from in [&a, &a, &b, &a] {
            from.send_to(b"x", to).expect("sent");
        }
        let mut batch = Batch::new();
        batch.receive_from(server.as_fd()).expect("received");
        let runs: Vec<_> = batch.runs().map(|(ends, range)| (ends.peer.port(), range)).collect();
        let [a, b] = [a, b].map(|socket| socket.local_addr().expect("bound").port());
        assert_eq!(runs, [(a, 0..2), (b, 2..3), (a, 3..4)]);
    }

    #[test]
    fn a_service_that_is_gone_is_told_by_its_error() {
        let gone = bound("127.0.0.1:0").local_addr().expect("bound");
        let (from, to) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        from.connect(to.local_addr().expect("bound")).expect("connected");
        to.connect(from.local_addr().expect("bound")).expect("connected");
        let mut batch = Batch::new();
        let error = batch.receive(to.as_fd()).expect_err("nothing is there");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        from.send(&[7; 60_000]).expect("sent");
        batch.receive(to.as_fd()).expect("received");
        assert_eq!(received(&batch), [&[7; 60_000][..]]);
        from.connect(gone).expect("connected");
        batch.send(0..1, from.as_fd(), None);
        let error = batch.receive(from.as_fd()).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
