//! What the store answers in each of the cases that it is made for.

use std::fs;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);
const START: Moment = Moment { unix: 1_800_000_000, boot: 1000 };
const HERE: Option<[u8; 16]> = Some([1; 16]);
const NEXT: Option<[u8; 16]> = Some([2; 16]);

struct Place {
    _dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        Place { path: dir.path().join("replay.journal"), _dir: dir }
    }

    fn open(&self, boot: Option<[u8; 16]>, now: Moment) -> ReplayStore {
        ReplayStore::open(&self.path, false, boot, now, WINDOW).expect("free")
    }
}

fn later(seconds: u32) -> Moment {
    Moment { unix: START.unix + u64::from(seconds), boot: START.boot + seconds }
}

/// Token `n`, dated by the clock of `now`.
fn shown(n: usize, now: Moment) -> Offered {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&n.to_be_bytes());
    let date = u32::try_from(now.unix).expect("before 2106");
    Offered { tag, kid: Kid::new(1).expect("not 0"), date }
}

fn spend(store: &ReplayStore, shown: Offered, now: Moment) -> Spend {
    store.spend(shown, now, WINDOW)
}

fn why(store: &ReplayStore, now: Moment) -> Option<(String, Option<i64>)> {
    let Closed { why, until, .. } = store.closed(now)?;
    Some((why, until.map(|until| until.as_second() - START.unix.cast_signed())))
}

#[test]
fn restarts_of_one_boot_know_what_was_spent() {
    let place = Place::new();
    let token = shown(1, START);
    let mut store = place.open(HERE, START);
    assert_eq!(spend(&store, token, START), Spend::Fresh);
    for n in 2..5 {
        let now = later(u32::try_from(n).expect("few"));
        if n == 3 {
            store.close(now);
            assert_eq!(spend(&store, shown(9, now), now), Spend::Unwritten, "it has stopped");
        }
        drop(store);
        store = place.open(HERE, now);
        assert_eq!(spend(&store, token, now), Spend::Replayed);
        assert_eq!(spend(&store, shown(n, now), now), Spend::Fresh);
        assert_eq!(why(&store, now), None);
    }
}

#[test]
fn a_clean_reboot_is_no_reason_for_distrust() {
    let place = Place::new();
    let store = place.open(HERE, START);
    assert_eq!(spend(&store, shown(1, START), START), Spend::Fresh);
    store.close(later(1));
    // However long ago that boot is.
    for (boot, n) in [(15, 2), (5000, 3)] {
        let now = Moment { unix: START.unix + 20, boot };
        let store = place.open(Some([u8::try_from(n).expect("few"); 16]), now);
        assert_eq!(spend(&store, shown(1, START), now), Spend::Replayed, "{boot}");
        assert_eq!(spend(&store, shown(n, later(10)), now), Spend::Fresh, "{boot}");
        store.close(now);
    }
}

#[test]
fn after_an_unclean_reboot_only_later_tokens_count() {
    let place = Place::new();
    let store = place.open(HERE, START);
    store.close(later(1));
    // The mark of a clean stop is taken back by the next start.
    drop(place.open(HERE, later(2)));
    let now = Moment { unix: START.unix + 20, boot: 15 };
    let store = place.open(NEXT, now);
    assert_eq!(spend(&store, shown(1, START), now), Spend::Early);
    assert_eq!(spend(&store, shown(2, later(80)), now), Spend::Early);
    assert_eq!(spend(&store, shown(3, later(81)), now), Spend::Fresh, "from a fast clock");
    let reboot = "the machine went down while posternd ran".to_owned();
    assert_eq!(why(&store, now), Some((reboot, Some(81))));
    // Also after a restart in the meantime.
    drop(store);
    let store = place.open(NEXT, now);
    assert_eq!(spend(&store, shown(2, later(80)), now), Spend::Early);
    let now = Moment { unix: START.unix + 81, boot: 76 };
    assert_eq!(spend(&store, shown(4, now), now), Spend::Fresh);
    assert_eq!(why(&store, now), None);
}

/// A machine without a clock of its own starts in the past.
#[test]
fn a_clock_that_is_put_right_moves_the_start() {
    let place = Place::new();
    drop(place.open(HERE, START));
    let store = place.open(NEXT, Moment { unix: START.unix - 3600, boot: 15 });
    let now = Moment { unix: START.unix + 20, boot: 25 };
    assert_eq!(spend(&store, shown(1, START), now), Spend::Early);
    assert_eq!(spend(&store, shown(2, later(70)), now), Spend::Early);
    assert_eq!(spend(&store, shown(3, later(71)), now), Spend::Fresh);
}

#[test]
fn what_an_unclean_reboot_left_counts_whatever_the_clock_shows() {
    let place = Place::new();
    let store = place.open(HERE, START);
    assert_eq!(spend(&store, shown(1, START), START), Spend::Fresh);
    drop(store);
    let store = place.open(NEXT, Moment { unix: START.unix - 3600, boot: 15 });
    let again = Moment { unix: START.unix, boot: 3615 };
    assert_eq!(spend(&store, shown(1, START), again), Spend::Early);
    assert_eq!(spend(&store, shown(2, later(1)), again), Spend::Fresh);
}

#[test]
fn a_damaged_journal_is_not_trusted() {
    let place = Place::new();
    let store = place.open(HERE, START);
    for n in 0..3 {
        assert_eq!(spend(&store, shown(n, START), START), Spend::Fresh);
    }
    drop(store);
    let whole = fs::read(&place.path).expect("a journal");
    let mut flipped = whole.clone();
    flipped[50] ^= 1;
    let damages: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("foreign", b"127.0.0.1 localhost\n"),
        ("cut", &whole[..whole.len() - 7]),
        ("longer", &[&whole[..], b"\0"].concat()),
        ("flipped", &flipped),
    ];
    for (what, bytes) in damages {
        fs::write(&place.path, bytes).expect("written");
        let store = place.open(HERE, later(10));
        assert_eq!(spend(&store, shown(1, START), later(10)), Spend::Early, "{what}");
        let damaged = "the journal is damaged".to_owned();
        assert_eq!(why(&store, later(10)), Some((damaged, Some(71))), "{what}");
        assert_eq!(spend(&store, shown(9, later(71)), later(71)), Spend::Fresh, "{what}");
    }
}

#[test]
fn no_journal_is_in_order_only_where_no_key_was_used() {
    let place = Place::new();
    assert_eq!(why(&place.open(HERE, START), START), None);
    fs::remove_file(&place.path).expect("removed");
    let store = ReplayStore::open(&place.path, true, HERE, START, WINDOW).expect("free");
    assert_eq!(spend(&store, shown(1, START), START), Spend::Early);
    assert_eq!(why(&store, START), Some(("the journal is missing".to_owned(), Some(61))));
}

#[test]
fn what_cannot_be_written_is_not_admitted() {
    let place = Place::new();
    let store = place.open(HERE, START);
    assert_eq!(spend(&store, shown(1, START), START), Spend::Fresh);
    fs::remove_file(&place.path).expect("removed");
    fs::create_dir(&place.path).expect("made");
    store.tend(later(1), WINDOW);
    assert_eq!(spend(&store, shown(2, later(1)), later(1)), Spend::Unwritten);
    let (why_not, until) = why(&store, later(1)).expect("closed");
    assert!(why_not.contains("directory") && until.is_none(), "{why_not}");

    fs::remove_dir(&place.path).expect("removed");
    assert_eq!(spend(&store, shown(3, later(2)), later(2)), Spend::Fresh, "it is tried again");
    assert_eq!(why(&store, later(2)), None);
    drop(store);
    let store = place.open(HERE, later(3));
    for n in 1..4 {
        assert_eq!(spend(&store, shown(n, START), later(3)), Spend::Replayed, "{n}");
    }
}

#[test]
fn a_clock_that_is_set_back_closes_for_two_windows() {
    let place = Place::new();
    let store = place.open(HERE, START);
    let back = |seconds: u32| {
        let now = later(seconds);
        Moment { unix: now.unix - 1000, ..now }
    };
    assert_eq!(spend(&store, shown(1, back(10)), back(10)), Spend::Closed);
    assert_eq!(why(&store, back(10)), Some(("the clock stepped back".to_owned(), Some(-870))));
    assert_eq!(spend(&store, shown(2, back(129)), back(129)), Spend::Closed);
    assert_eq!(spend(&store, shown(3, back(130)), back(130)), Spend::Fresh);
    assert_eq!(spend(&store, shown(2, back(129)), back(131)), Spend::Replayed, "refused is spent");
    let on = Moment { unix: START.unix + 9000, ..later(200) };
    assert_eq!(spend(&store, shown(4, on), on), Spend::Fresh, "forward is no danger");
}

#[test]
fn a_wider_window_by_reload_opens_nothing_again() {
    let place = Place::new();
    let narrow = Duration::from_secs(5);
    let store = ReplayStore::open(&place.path, false, HERE, START, narrow).expect("free");
    assert_eq!(store.spend(shown(1, START), START, narrow), Spend::Fresh);
    // Long enough for the narrow window to forget it.
    assert_eq!(store.spend(shown(2, later(25)), later(25), narrow), Spend::Fresh);
    assert_eq!(store.spend(shown(3, later(50)), later(50), narrow), Spend::Fresh);
    let wide = Duration::from_secs(300);
    assert_ne!(store.spend(shown(1, START), later(60), wide), Spend::Fresh);
    assert_eq!(store.spend(shown(4, later(60)), later(60), wide), Spend::Fresh);
    drop(store);
    let store = ReplayStore::open(&place.path, false, HERE, later(61), wide).expect("free");
    for n in 1..5 {
        assert_ne!(store.spend(shown(n, START), later(61), wide), Spend::Fresh, "{n}");
    }
    // What may be lost now was taken under the wide one.
    drop(store);
    let now = Moment { unix: START.unix + 80, boot: 5 };
    let store = ReplayStore::open(&place.path, false, NEXT, now, narrow).expect("free");
    assert_eq!(store.spend(shown(9, later(380)), later(380), narrow), Spend::Early);
}

#[test]
fn of_many_at_once_one_is_fresh() {
    let place = Place::new();
    let store = place.open(HERE, START);
    let fresh = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| spend(&store, shown(1, START), START))).collect();
        let spends = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        spends.filter(|spend| *spend == Spend::Fresh).count()
    });
    assert_eq!(fresh, 1);
}

#[test]
fn the_journal_does_not_grow_for_ever() {
    let place = Place::new();
    let store = place.open(HERE, START);
    let mut longest = 0;
    for n in 0..20_000 {
        let now = later(u32::try_from(n).expect("few"));
        assert_eq!(spend(&store, shown(n, now), now), Spend::Fresh);
        longest = longest.max(fs::metadata(&place.path).expect("there").len());
    }
    // Never more than 2 * 186 are remembered here.
    let most = u64::try_from(most_bytes(2 * 186)).expect("small");
    assert!(longest <= most, "{longest} bytes");
}
