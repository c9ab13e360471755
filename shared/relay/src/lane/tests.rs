use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;

use tokio::io::AsyncReadExt;

use super::*;
use crate::wire::Wire;

/// Each read ends within a header, so that what was read ahead is never used up.
#[tokio::test]
async fn what_is_read_ahead_does_not_pile_up() {
    const FRAMES: usize = 64 * 1024;
    let frame = |length: usize| [&Frame::Data(length).header()[..], &vec![7; length]].concat();
    let mut bytes = frame(58);
    bytes.extend(frame(60).repeat(FRAMES));
    bytes.extend(Frame::Fin.header());
    let (wire, far) = Wire::pair().expect("two sockets");
    let writer = thread::spawn(move || UnixStream::from(far).write_all(&bytes));
    let mut lane = Lane::new(wire);
    let (mut count, mut most, mut piece) = (0, 0, [0; 1024]);
    loop {
        match lane.read(&mut piece).await.expect("frames") {
            0 => break,
            read => count += read,
        }
        most = most.max(lane.ahead.capacity());
    }
    writer.join().expect("no panic").expect("all was taken");
    assert_eq!(count, 58 + 60 * FRAMES);
    assert!(most <= 4 * AHEAD, "{most}");
}
