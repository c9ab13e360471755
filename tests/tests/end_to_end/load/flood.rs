//! Strangers who come one after the other as fast as they can, from many addresses, and are answered by
//! the website each.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use postern_shared::knock::{Carrier, Kid};
use postern_tests::knock::{SESSION_ID, random};
use postern_tests::net::{connect_from, read_all};
use postern_tests::process::text;
use postern_tests::tls::hello;
use postern_tests::{Knocker, TlsClient, World};

use super::address;
use super::insiders::Insiders;

/// Who come at the same time.
const ABREAST: usize = 4;

/// What posternd may grow by, however many have come: what allocators keep, and the spent knocks.
const GROWTH: u64 = 4 << 20;

/// Lets strangers come until so many were here and insiders were twice seen to go on. Each does what
/// `stranger` does with its number; nobody but the insiders is let in.
fn flood(world: &World, least: usize, stranger: impl Fn(usize) + Sync) {
    let earlier = knocks(world, "admitted");
    let mut insiders = Insiders::enter(world);
    // What the first ones make posternd allocate is not the price of the others.
    (0..100).for_each(&stranger);
    let before = insiders.resident();
    let (next, over) = (AtomicUsize::new(100), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..ABREAST {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    stranger(next.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        let _over = Over(&over);
        for round in 0.. {
            insiders.go_on();
            if round > 0 && next.load(Ordering::Relaxed) > least {
                break;
            }
        }
    });
    let (count, growth) = (next.into_inner(), insiders.resident().saturating_sub(before));
    eprintln!("{count} strangers, after whom posternd is {growth} bytes larger");
    assert!(growth < GROWTH, "{growth} bytes larger after {count} strangers");
    assert_eq!(knocks(world, "admitted"), earlier + insiders.admitted);
}

/// Ends the flood, also where an insider was disturbed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Shows the bytes and nothing else; returns what comes back.
fn show(world: &World, number: usize, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect_from(address(number), world.server.address());
    // The website may have closed or reset by then, which is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_all(&mut stream).bytes
}

fn knocks(world: &World, kind: &str) -> u64 {
    world.server.status()["knocks"][kind].as_u64().expect("a number")
}

#[test]
fn hellos_that_are_none_or_nearly_one() {
    let world = World::start();
    let knocker = Knocker::new(&world.invite);
    let ordinary = hello(Some("www.example.com"));
    let strangers = |number: usize| {
        let draws: [u8; 8] = random();
        let [kind, high, low, bit, ..] = draws;
        let somewhere = usize::from(u16::from_be_bytes([high, low]));
        let mut bytes = match kind % 4 {
            0 => random::<600>().to_vec(),
            1 => [&[22, 3, 1][..], &random::<600>()].concat(),
            2 => ordinary.clone(),
            _ => knocker.hello(),
        };
        let length = bytes.len();
        match number % 3 {
            0 => bytes[5 + somewhere % (length - 5)] ^= 1 << (bit % 8),
            1 => bytes.truncate(somewhere % length),
            _ => bytes[SESSION_ID].copy_from_slice(&random::<32>()),
        }
        let answer = show(&world, number, &bytes);
        // In its alerts OpenSSL says what version it was offered, however bent.
        let in_tls = matches!(answer[..], [] | [21, ..] | [22, 3, ..]);
        let in_clear = text(&answer).contains("400 Bad Request");
        assert!(in_tls || in_clear, "{bytes:?} is answered {answer:?}");
    };
    flood(&world, 4000, strangers);
    assert_eq!(knocks(&world, "refused"), 0, "none was of a key holder");
}

#[test]
fn knocks_that_are_wrong_on_all_carriers() {
    let world = World::start();
    let right = Knocker::new(&world.invite);
    let wrong = right.clone().with_wrong_key();
    let mut nobody = right.clone();
    nobody.header.kid = Kid::new(1).expect("not 0");
    let late = right.clone().off_by(-3600);
    let ending = |letters: Vec<u8>| [&letters, &b"\r\n\r\n"[..]].concat();
    let spent = (ending(right.plain()), right.hello());
    show(&world, 0, &spent.0);
    show(&world, 0, &spent.1);

    let certificate = world.scratch.path("tls.crt");
    let in_tls = |number, knocker: &Knocker| {
        let stream = connect_from(address(number), world.server.address());
        let mut tls = TlsClient::connect(stream, "ssh.example.com", &certificate);
        let letters = knocker.letters(Carrier::Tls, &tls.exporter());
        tls.exchange(&ending(letters)).bytes
    };
    let refused = AtomicUsize::new(0);
    let refuse = |bytes: Vec<u8>| {
        refused.fetch_add(1, Ordering::Relaxed);
        bytes
    };
    let strangers = |number: usize| {
        let hello = match number % 16 {
            0 => return is_bad_request(&in_tls(number, &wrong)),
            1 => return is_bad_request(&in_tls(number, &nobody)),
            2..5 => return is_bad_request(&show(&world, number, &ending(wrong.plain()))),
            5 | 6 => return is_bad_request(&show(&world, number, &ending(nobody.plain()))),
            7 => return is_bad_request(&show(&world, number, &refuse(ending(late.plain())))),
            8 => return is_bad_request(&show(&world, number, &refuse(spent.0.clone()))),
            9..12 => wrong.hello(),
            12 | 13 => nobody.hello(),
            14 => refuse(late.hello()),
            _ => refuse(spent.1.clone()),
        };
        let answer = show(&world, number, &hello);
        assert!(answer.starts_with(&[22, 3, 3]), "the website's ServerHello: {answer:?}");
        assert!(!right.is_recognised(&hello, &answer));
    };
    flood(&world, 4000, strangers);
    assert_eq!(knocks(&world, "refused"), refused.into_inner() as u64, "of a key holder");
}

fn is_bad_request(answer: &[u8]) {
    assert!(text(answer).contains("400 Bad Request"), "{:?}", text(answer));
}
