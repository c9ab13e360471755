//! The store against a world in which posternd is stopped, killed and restarted, the machine goes down,
//! the journal is damaged and the clock is set: no token is ever admitted twice.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// Somebody whose clock is off by so many seconds knocks.
    Knock(i64),
    /// One of the tokens that were seen before is shown.
    Show(Index),
    Wait(u32),
    /// The clock is set.
    Step(i64),
    /// The clock is set back so far that a token is in time again as soon as this is forgiven.
    StepTo(Index),
    Window(u64),
    /// A second passes, and posternd looks after its journal.
    Tend,
    /// A directory lies in the journal's place.
    Block,
    Unblock,
    Stop,
    Kill,
    /// Stopped, and started again by another boot of the machine.
    Reboot(u32),
    /// The machine loses power; of what was not synced a part is left.
    Crash(Index),
    /// Killed, and a byte of the journal changes.
    Damage(Index, u8),
    /// Killed, and the journal is removed.
    Remove,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (-310i64..310).prop_map(Event::Knock),
        10 => any::<Index>().prop_map(Event::Show),
        4 => (0u32..30).prop_map(Event::Wait),
        2 => (0u32..2000).prop_map(Event::Wait),
        1 => (-100i64..100).prop_map(Event::Step),
        1 => (-5000i64..5000).prop_map(Event::Step),
        1 => any::<Index>().prop_map(Event::StepTo),
        1 => prop::sample::select(vec![5, 60, 300]).prop_map(Event::Window),
        2 => Just(Event::Tend),
        1 => Just(Event::Block),
        2 => Just(Event::Unblock),
        1 => Just(Event::Stop),
        1 => Just(Event::Kill),
        1 => (0u32..1000).prop_map(Event::Reboot),
        1 => any::<Index>().prop_map(Event::Crash),
        1 => (any::<Index>(), 1u8..).prop_map(|(at, by)| Event::Damage(at, by)),
        1 => Just(Event::Remove),
    ]
}

struct World {
    _dir: TempDir,
    path: PathBuf,
    store: Option<ReplayStore>,
    now: Moment,
    boot: u8,
    window: u64,
    widest: u64,
    /// What the disk is sure to hold.
    synced: Vec<u8>,
    tokens: Vec<Offered>,
    admitted: HashSet<[u8; 16]>,
    /// When a token was last admitted, by the clock of that time.
    last: u64,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let mut world = World {
            path: dir.path().join("replay.journal"),
            _dir: dir,
            store: None,
            now: Moment { unix: 1_800_000_000, boot: 100 },
            boot: 1,
            window: 60,
            widest: 60,
            synced: Vec::new(),
            tokens: Vec::new(),
            admitted: HashSet::new(),
            last: 0,
        };
        world.start();
        world
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.window)
    }

    fn store(&self) -> &ReplayStore {
        self.store.as_ref().expect("it runs")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }

    fn start(&mut self) {
        self.store = None;
        let used = !self.admitted.is_empty();
        let (boot, window) = (Some([self.boot; 16]), self.window());
        let store = ReplayStore::open(&self.path, used, boot, self.now, window).expect("free");
        self.store = Some(store);
        self.synced = self.bytes();
    }

    /// A start that may lack tokens. Nothing can be known of a clock that shows less than it did then.
    fn start_after_loss(&mut self) {
        self.now.unix = self.now.unix.max(self.last);
        self.window = self.widest;
        self.start();
    }

    fn next_boot(&mut self) {
        self.boot += 1;
        self.now.boot = 7;
    }

    fn pass(&mut self, seconds: u32) {
        self.now.unix += u64::from(seconds);
        self.now.boot += seconds;
    }

    fn show(&mut self, shown: Offered, is_new: bool) {
        // What the gate looks at first.
        if u64::from(shown.date).abs_diff(self.now.unix) > self.window {
            return;
        }
        let closed = self.store().closed(self.now).is_some();
        let on_time = u64::from(shown.date) == self.now.unix;
        let spend = self.store().spend(shown, self.now, self.window());
        if spend == Spend::Fresh {
            assert!(self.admitted.insert(shown.tag), "admitted a second time");
            self.last = self.last.max(self.now.unix);
        } else if is_new && on_time && !closed {
            assert!(self.store().closed(self.now).is_some(), "{spend:?}, though it is open");
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Knock(off) => {
                let mut tag = [0; 16];
                tag[..8].copy_from_slice(&self.tokens.len().to_be_bytes());
                let date = self.now.unix.saturating_add_signed(if off % 3 == 0 { 0 } else { off });
                let date = u32::try_from(date).expect("before 2106");
                let shown = Offered { tag, kid: Kid::new(1).expect("not 0"), date };
                self.tokens.push(shown);
                self.show(shown, true);
            }
            Event::Show(which) if !self.tokens.is_empty() => {
                self.show(*which.get(&self.tokens), false);
            }
            Event::Show(_) => {}
            Event::Wait(seconds) => self.pass(seconds),
            Event::Step(by) => self.now.unix = self.now.unix.saturating_add_signed(by),
            Event::StepTo(which) if !self.tokens.is_empty() => {
                let shown = *which.get(&self.tokens);
                self.now.unix = u64::from(shown.date).saturating_sub(self.window * 2);
                self.store().tend(self.now, self.window());
                self.pass(u32::try_from(self.window * 2).expect("short"));
                self.show(shown, false);
            }
            Event::StepTo(_) => {}
            Event::Window(window) => {
                self.window = window;
                self.widest = self.widest.max(window);
            }
            Event::Tend => {
                self.pass(1);
                self.store().tend(self.now, self.window());
            }
            Event::Block => {
                let _ = fs::remove_file(&self.path);
                let _ = fs::create_dir(&self.path);
            }
            Event::Unblock => drop(fs::remove_dir(&self.path)),
            Event::Stop => {
                self.store().close(self.now);
                self.restart();
            }
            Event::Kill => self.restart(),
            Event::Reboot(seconds) => {
                self.store().close(self.now);
                let whole = self.path.is_file();
                self.pass(seconds);
                self.next_boot();
                if whole { self.start() } else { self.start_after_loss() }
            }
            Event::Crash(left) => {
                self.store = None;
                let bytes = self.bytes();
                let kept = left.index(bytes.len() + 1).max(self.synced.len().min(bytes.len()));
                if self.path.is_file() {
                    // Renamed but not synced, the file may also be the one from before.
                    let old = left.index(2) == 0;
                    let bytes = if old { &self.synced } else { &bytes[..kept] };
                    fs::write(&self.path, bytes).expect("written");
                }
                self.next_boot();
                self.start_after_loss();
            }
            Event::Damage(at, by) => {
                self.store = None;
                let mut bytes = self.bytes();
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= by;
                    fs::write(&self.path, bytes).expect("written");
                }
                self.start_after_loss();
            }
            Event::Remove => {
                self.store = None;
                let _ = fs::remove_file(&self.path);
                self.start_after_loss();
            }
        }
    }

    fn restart(&mut self) {
        if self.path.is_file() { self.start() } else { self.start_after_loss() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_token_is_admitted_twice(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
    }
}
