#![expect(clippy::disallowed_methods, reason = "edge: watches files, in the order of a clock")]
//! The operator's own suppression lists: `<address-list>`s at the top level, which sources cite in `suppression-lists`
//! (reference/directives.md, 4.4). Asked at submission.
//!
//! Promises about their files:
//! - Small ones are in force when [`AddressLists::use_config`] returns; a large one at once too when its index is that of
//!   the file as it is, else it is read in the background, and the log says how far it is. Until it is in force nobody can
//!   say who is in the list: [`AddressLists::find`] says so, mail that asks for it waits with its submitter (451), and
//!   nobody is mailed by mistake. Start-up waits for nothing.
//! - A file is looked at every few seconds and read again when it has changed and stays as it is for a moment. What it
//!   held before is in force until the new one is whole, and stays in force when the new one can't be read or the file has
//!   gone, also over a restart: that is an error in the log and in the status.
//! - A line that can't be read is counted, the first few with their numbers and reasons; the others hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use data_encoding::HEXLOWER;

use super::address_file::{BuildError, Facts, Identity, Index, build, identity};
use super::key::Hasher;
use super::mail::Suppressed;
use crate::config::{AddressList, Config, Entries};
use crate::event::{Address, Time};

/// How files are watched.
#[derive(Debug, Clone)]
pub struct Watching {
    /// Where indexes are kept; made when it is needed.
    pub cache: PathBuf,
    /// How often files are looked at.
    pub every: Duration,
    /// For how long a file has to stay as it is before it is read again.
    pub settled: Duration,
    /// Files up to so many bytes are kept in memory.
    pub small: u64,
}

impl Watching {
    /// With indexes in this folder.
    pub fn new(cache: PathBuf) -> Watching {
        let (every, settled) = (Duration::from_secs(5), Duration::from_secs(2));
        Watching { cache, every, settled, small: super::address_file::build::SMALL }
    }
}

/// How often the log hears of the progress of reading a large file.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// A list can't be asked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("suppression list \"{list}\" is not loaded: carom status shows why")]
pub struct NotLoaded {
    /// Its name.
    pub list: Box<str>,
}

/// The lists in force; cheap to clone. The files are watched until the last one is dropped.
#[derive(Clone)]
pub struct AddressLists(Arc<Shared>);

struct Shared {
    lists: ArcSwap<BTreeMap<String, List>>,
    hasher: Hasher,
    watching: Watching,
    /// Large files are read one at a time.
    building: Arc<Mutex<()>>,
    woken: Mutex<bool>,
    wake: Condvar,
}

#[derive(Clone)]
struct List {
    /// As written.
    name: Box<str>,
    own: AddressList,
    files: Vec<Arc<Watched>>,
}

/// A file, cited by one or more lists.
struct Watched {
    path: PathBuf,
    content: ArcSwapOption<Index>,
    state: Mutex<State>,
    /// A thread reads it.
    busy: AtomicBool,
    /// Bytes of it that the thread has read, and how many there are.
    read: AtomicU64,
    size: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Of what is in force.
    loaded: Option<Identity>,
    /// When that was read.
    since: Option<Time>,
    /// As it was when it was looked at last.
    seen: Option<Identity>,
    /// As it was when reading it failed: it is not tried again before it changes.
    failed: Option<Identity>,
    error: Option<String>,
}

/// How one file stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Where it is.
    pub path: PathBuf,
    /// Names of the lists that cite it.
    pub lists: Vec<String>,
    /// What is in force; `None` while nothing is.
    pub facts: Option<Facts>,
    /// Since when.
    pub since: Option<Time>,
    /// Bytes in memory, about.
    pub memory: usize,
    /// Bytes read and bytes in all, while it is being read.
    pub reading: Option<(u64, u64)>,
    /// Why what is in the file now is not in force.
    pub error: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is half-written across an unlock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Time {
    Time::from(jiff::Timestamp::now())
}

impl Default for AddressLists {
    /// No lists, and nobody watches.
    fn default() -> AddressLists {
        AddressLists::unwatched(Hasher::default(), Watching::new(PathBuf::new()))
    }
}

impl std::fmt::Debug for AddressLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressLists").field("lists", &self.0.lists.load().len()).finish()
    }
}

impl AddressLists {
    /// No lists yet; a thread watches the files of those that come.
    pub fn start(hasher: Hasher, watching: Watching) -> io::Result<AddressLists> {
        let lists = AddressLists::unwatched(hasher, watching);
        let shared = Arc::downgrade(&lists.0);
        std::thread::Builder::new().name("address-files".into()).spawn(move || watch(&shared))?;
        Ok(lists)
    }

    fn unwatched(hasher: Hasher, watching: Watching) -> AddressLists {
        AddressLists(Arc::new(Shared {
            lists: ArcSwap::default(),
            hasher,
            watching,
            building: Arc::default(),
            woken: Mutex::new(false),
            wake: Condvar::new(),
        }))
    }

    /// From now on these are the lists. Small files are read before this returns, and large ones whose index fits; files
    /// that are in force already stay so.
    pub fn use_config(&self, config: &Config) {
        let shared = &self.0;
        let old = shared.lists.load_full();
        let mut files: BTreeMap<PathBuf, Arc<Watched>> = BTreeMap::new();
        for file in old.values().flat_map(|list| &list.files) {
            files.insert(file.path.clone(), file.clone());
        }
        let mut lists = BTreeMap::new();
        for (key, configured) in &config.address_lists {
            let file = |path: &PathBuf| files.entry(path.clone()).or_insert_with(|| Watched::new(path)).clone();
            let files = configured.files.iter().map(file).collect();
            let list = List { name: configured.name.as_str().into(), own: configured.list.clone(), files };
            lists.insert(key.clone(), list);
        }
        let used: BTreeMap<PathBuf, Arc<Watched>> =
            lists.values().flat_map(|list: &List| &list.files).map(|f| (f.path.clone(), f.clone())).collect();
        if used.is_empty() && old.is_empty() && lists.is_empty() {
            return;
        }
        for file in used.values().filter(|file| file.content.load().is_none()) {
            shared.begin(file);
        }
        shared.sweep(used.keys());
        shared.lists.store(Arc::new(lists));
        self.look();
    }

    /// Has all files looked at now.
    pub fn look(&self) {
        *lock(&self.0.woken) = true;
        self.0.wake.notify_all();
    }

    /// The first of the lists of these lower-cased names that has this recipient, by itself, by its local part or by its
    /// domain. `Err` when none has it and one of them can't be asked.
    pub fn find(&self, names: &[String], rcpt: &str) -> Result<Option<Suppressed>, NotLoaded> {
        let Ok(address) = Address::parse(rcpt.trim()) else { return Ok(None) };
        let key = address.key();
        let lists = self.0.lists.load();
        let mut unknown = None;
        for name in names {
            let Some(list) = lists.get(name) else {
                unknown = Some(name.as_str().into());
                continue;
            };
            let has = |file: &Arc<Watched>| match &*file.content.load() {
                Some(index) => index.has(&key, &self.0.hasher).inspect_err(|error| file.looking_up_failed(error)).ok(),
                None => None,
            };
            if list.own.takes(&address, Entries::All) {
                return Ok(Some(Suppressed { by: 0, list: list.name.clone(), held: false }));
            }
            for file in &list.files {
                match has(file) {
                    Some(true) => return Ok(Some(Suppressed { by: 0, list: list.name.clone(), held: false })),
                    Some(false) => {}
                    None => unknown = Some(list.name.clone()),
                }
            }
        }
        unknown.map_or(Ok(None), |list| Err(NotLoaded { list }))
    }

    /// How all files stand, by path.
    pub fn status(&self) -> Vec<FileStatus> {
        let lists = self.0.lists.load();
        let mut status: BTreeMap<&Path, FileStatus> = BTreeMap::new();
        for list in lists.values() {
            for file in &list.files {
                let one = status.entry(&file.path).or_insert_with(|| file.status());
                one.lists.push(list.name.to_string());
            }
        }
        status.into_values().collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wake.notify_all();
    }
}

impl Watched {
    fn new(path: &Path) -> Arc<Watched> {
        Arc::new(Watched {
            path: path.to_owned(),
            content: ArcSwapOption::empty(),
            state: Mutex::default(),
            busy: AtomicBool::new(false),
            read: AtomicU64::new(0),
            size: AtomicU64::new(0),
        })
    }

    fn status(&self) -> FileStatus {
        let content = self.content.load();
        let state = lock(&self.state);
        let numbers = || (self.read.load(Ordering::Relaxed), self.size.load(Ordering::Relaxed));
        FileStatus {
            path: self.path.clone(),
            lists: Vec::new(),
            facts: content.as_ref().map(|index| index.facts.clone()),
            since: state.since,
            memory: content.as_ref().map_or(0, |index| index.memory()),
            reading: self.busy.load(Ordering::Relaxed).then(numbers),
            error: state.error.clone(),
        }
    }

    /// Says so once, not at each recipient.
    fn looking_up_failed(&self, error: &io::Error) {
        self.failed(None, format!("its index can't be read: {error}"));
    }

    fn failed(&self, at: Option<Identity>, why: String) {
        let mut state = lock(&self.state);
        state.failed = at.or(state.failed);
        if state.error.as_ref() != Some(&why) {
            let kept = match self.content.load().is_some() {
                true => "what it held before stays in force",
                false => "mail of sources that cite it waits",
            };
            tracing::error!("address-file {}: {why}; {kept}", self.path.display());
            state.error = Some(why);
        }
    }

    fn in_force(&self, index: Index, identity: Option<Identity>) {
        let Facts { entries, bad, first_bad, .. } = &index.facts;
        let path = self.path.display();
        tracing::info!(entries, bad, memory = index.memory(), "address-file {path} is in force");
        if *entries == 0 {
            tracing::warn!("address-file {path} holds no address");
        }
        for (line, why) in first_bad {
            tracing::warn!("{path}:{line}: line passed over: {why}");
        }
        let mut state = lock(&self.state);
        self.content.store(Some(Arc::new(index)));
        (state.loaded, state.since) = (identity, Some(now()));
        if identity.is_some() {
            (state.failed, state.error) = (None, None);
        }
    }
}

impl Shared {
    fn index_of(&self, path: &Path) -> PathBuf {
        let name = Hasher::default().subject(&path.display().to_string()).0;
        self.watching.cache.join(format!("{}.idx", HEXLOWER.encode(&name)))
    }

    /// A file that nothing is in force of: its index, if it fits, or the file itself, if it is small.
    fn begin(self: &Arc<Self>, file: &Arc<Watched>) {
        let index = self.index_of(&file.path);
        match identity(&file.path) {
            Ok(is) => {
                lock(&file.state).seen = Some(is);
                match Index::open(&index, Some(&is), &self.hasher) {
                    Ok(index) => file.in_force(index, Some(is)),
                    Err(_) => self.read(file, is),
                }
            }
            Err(error) => {
                if let Ok(index) = Index::open(&index, None, &self.hasher) {
                    file.in_force(index, None);
                }
                file.failed(None, format!("it can't be read: {error}"));
            }
        }
    }

    /// Reads the file, here when it is small, else in a thread of its own.
    fn read(self: &Arc<Self>, file: &Arc<Watched>, is: Identity) {
        if file.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        file.read.store(0, Ordering::Relaxed);
        file.size.store(is.size, Ordering::Relaxed);
        if is.size <= self.watching.small {
            return load(&Arc::downgrade(self), file, is);
        }
        let (shared, of) = (Arc::downgrade(self), file.clone());
        let spawned = std::thread::Builder::new().name("address-file".into()).spawn(move || load(&shared, &of, is));
        if let Err(error) = spawned {
            file.busy.store(false, Ordering::Release);
            file.failed(None, format!("no thread to read it: {error}"));
        }
    }

    /// Looks whether the file has changed.
    fn look_at(self: &Arc<Self>, file: &Arc<Watched>) {
        if file.busy.load(Ordering::Acquire) {
            return;
        }
        let is = match identity(&file.path) {
            Ok(is) => is,
            Err(error) => {
                lock(&file.state).seen = None;
                return file.failed(None, format!("it can't be read: {error}"));
            }
        };
        let has_content = file.content.load().is_some();
        let mut state = lock(&file.state);
        let seen = state.seen.replace(is);
        if state.loaded == Some(is) {
            if state.failed.take().is_some() || state.error.take().is_some() {
                tracing::info!("address-file {} is again as it was when it was read", file.path.display());
            }
            return;
        }
        if state.failed == Some(is) {
            return;
        }
        drop(state);
        // Somebody may be writing it: a file that is read too early would be read twice.
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as i64
            - is.modified.0.max(is.changed.0);
        let settled = age >= self.watching.settled.as_micros() as i64;
        if !has_content || (settled && (seen == Some(is) || age >= 2 * self.watching.settled.as_micros() as i64)) {
            self.read(file, is);
        }
    }

    /// Removes the indexes of files that no list cites any more.
    fn sweep<'a>(&self, used: impl Iterator<Item = &'a PathBuf>) {
        let wanted: BTreeSet<PathBuf> = used.map(|path| self.index_of(path)).collect();
        let Ok(there) = std::fs::read_dir(&self.watching.cache) else { return };
        for path in there.flatten().map(|entry| entry.path()) {
            let is_index = path.extension().is_some_and(|e| e == "idx");
            if is_index && !wanted.contains(&path) {
                // It only takes room.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Reads one file and puts it in force. Ends early when nobody holds the lists any more.
fn load(shared: &Weak<Shared>, file: &Arc<Watched>, is: Identity) {
    let Some(strong) = shared.upgrade() else { return };
    let (hasher, watching, index) = (strong.hasher.clone(), strong.watching.clone(), strong.index_of(&file.path));
    let large = is.size > watching.small;
    let building = strong.building.clone();
    drop(strong);
    // Not while another one is read: memory and disk are bounded for one.
    let _turn = large.then(|| lock(&building));
    if large {
        tracing::info!(bytes = is.size, "reading address-file {}", file.path.display());
        // If it can't be made, the index can't either, which says so.
        let _ = std::fs::create_dir_all(&watching.cache);
    }
    let mut told = Instant::now();
    let mut progress = |read: u64, size: u64| {
        file.read.store(read, Ordering::Relaxed);
        if large && told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            let percent = read * 100 / size.max(1);
            tracing::info!(read, size, "reading address-file {}: {percent} %", file.path.display());
        }
        shared.strong_count() > 0
    };
    let built = build(&file.path, &index, watching.small, &hasher, &mut progress);
    match built {
        Ok((index, identity)) => file.in_force(index, Some(identity)),
        Err(BuildError::Stopped) => {}
        // The next look reads it again.
        Err(BuildError::Changed) => tracing::info!("address-file {} changed while it was read", file.path.display()),
        Err(error) => file.failed(Some(is), error.to_string()),
    }
    file.busy.store(false, Ordering::Release);
}

/// Looks at all files in turn, until nobody holds the lists any more.
fn watch(shared: &Weak<Shared>) {
    while let Some(strong) = shared.upgrade() {
        let lists = strong.lists.load_full();
        let files: BTreeMap<&Path, &Arc<Watched>> =
            lists.values().flat_map(|list| &list.files).map(|file| (file.path.as_path(), file)).collect();
        for file in files.into_values() {
            strong.look_at(file);
        }
        let every = strong.watching.every;
        // The last holder must be able to go while this thread waits.
        drop(strong);
        let waited = Instant::now();
        while waited.elapsed() < every {
            let Some(strong) = shared.upgrade() else { return };
            let mut woken = lock(&strong.woken);
            if std::mem::take(&mut *woken) {
                break;
            }
            let step = every.saturating_sub(waited.elapsed()).min(Duration::from_millis(200));
            drop(strong.wake.wait_timeout(woken, step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Place {
            Place { dir: tempfile::tempdir().unwrap() }
        }
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
        /// Lists that are looked at all the time; what is larger than `small` gets an index.
        fn lists(&self, small: u64) -> AddressLists {
            let (every, settled) = (Duration::from_millis(20), Duration::from_millis(40));
            AddressLists::start(Hasher::default(), Watching { cache: self.path("cache"), every, settled, small })
                .unwrap()
        }
        fn config(&self, lines: &str) -> Config {
            let lines = lines.replace("FILE", self.path("list").to_str().unwrap());
            let text =
                format!("host-name h\nspool /s\nlog-file /l\n<source 10/8>\nsuppression-lists L\n</source>\n{lines}");
            let loaded = crate::config::parse_str("c", &text);
            loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
        }
        /// Written as programs should: another file takes its place.
        fn write(&self, text: &str) {
            fs::write(self.path("new"), text).unwrap();
            fs::rename(self.path("new"), self.path("list")).unwrap();
        }
    }

    const LIST: &str = "<address-list L>\naddress-file FILE\n</address-list>\n";

    fn has(lists: &AddressLists, address: &str) -> Option<bool> {
        lists.find(&["l".to_owned()], address).ok().map(|found| found.is_some())
    }

    /// Waits, but not for ever.
    fn until(what: &str, lists: &AddressLists, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < Duration::from_secs(9), "{what}: {:?}", lists.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn entries_of_all_kinds_are_found_in_the_list_under_its_name_as_written() {
        let place = Place::new();
        place.write("ann@example.net\n");
        let lists = place.lists(1 << 20);
        let more = "address bob@example.net\naddress abuse\naddress /^trap-/\ndomain gone.example\n";
        lists.use_config(&place.config(&LIST.replace("address-file", &format!("{more}address-file"))));
        for there in ["ANN@example.net", "Bob@EXAMPLE.net", "abuse@x.example", "trap-1@x.example", "x@gone.example"] {
            let found = lists.find(&["other".to_owned(), "l".to_owned()], there).unwrap().unwrap();
            assert_eq!((found.by, &*found.list, found.held), (0, "L", false), "{there}");
        }
        assert_eq!(has(&lists, "carl@example.net"), Some(false));
        let unknown = lists.find(&["other".to_owned()], "carl@example.net").unwrap_err();
        assert_eq!(&*unknown.list, "other", "a list that is not there is not empty");
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_the_old_content_holds_until_then_and_when_it_goes_or_is_bad() {
        for small in [1 << 20, 0] {
            let place = Place::new();
            place.write("ann@example.net\nno address\n");
            let lists = place.lists(small);
            lists.use_config(&place.config(LIST));
            until("loaded", &lists, || has(&lists, "ann@example.net") == Some(true));
            let facts = lists.status().remove(0).facts.unwrap();
            assert_eq!((facts.entries, facts.bad, facts.first_bad[0].0), (1, 1, 2));

            place.write("bob@example.net\n");
            until("read again", &lists, || has(&lists, "bob@example.net") == Some(true));
            assert_eq!(has(&lists, "ann@example.net"), Some(false));

            fs::remove_file(place.path("list")).unwrap();
            until("missed", &lists, || lists.status()[0].error.is_some());
            assert_eq!(has(&lists, "bob@example.net"), Some(true), "what it held stays");
            place.write("<html>\nnot found\n</html>\n");
            let nothing_good = |s: &FileStatus| s.error.as_ref().is_some_and(|e| e.contains("is an address"));
            until("refused", &lists, || nothing_good(&lists.status()[0]));
            assert_eq!(has(&lists, "bob@example.net"), Some(true), "what it held stays");

            place.write("carl@example.net\n");
            until("read again", &lists, || has(&lists, "carl@example.net") == Some(true));
            assert_eq!(lists.status()[0].error, None);
        }
    }

    #[test]
    fn while_nothing_is_known_of_a_file_nobody_is_said_to_be_absent() {
        let place = Place::new();
        let lists = place.lists(1 << 20);
        lists.use_config(&place.config(LIST));
        assert_eq!(has(&lists, "ann@example.net"), None);
        assert!(lists.status()[0].error.as_ref().unwrap().contains("can't be read"));
        place.write("bob@example.net\n");
        until("it came", &lists, || has(&lists, "ann@example.net") == Some(false));
    }

    #[test]
    fn the_next_start_uses_the_index_even_when_the_file_has_gone_and_forgets_that_of_a_list_that_is_not_cited() {
        let place = Place::new();
        place.write("ann@example.net\n");
        let lists = place.lists(0);
        lists.use_config(&place.config(LIST));
        until("loaded", &lists, || has(&lists, "ann@example.net") == Some(true));
        drop(lists);
        let index = || fs::read_dir(place.path("cache")).unwrap().flatten().map(|e| e.metadata().unwrap()).next();
        let inode = |m: fs::Metadata| std::os::unix::fs::MetadataExt::ino(&m);
        let before = index().map(inode);

        let lists = place.lists(0);
        lists.use_config(&place.config(LIST));
        assert_eq!(has(&lists, "ann@example.net"), Some(true), "at once");
        assert_eq!(index().map(inode), before, "not made again");
        drop(lists);

        fs::remove_file(place.path("list")).unwrap();
        let lists = place.lists(0);
        lists.use_config(&place.config(LIST));
        assert_eq!(has(&lists, "ann@example.net"), Some(true));
        assert!(lists.status()[0].error.is_some());
        lists.use_config(&place.config("<address-list L>\naddress bob@example.net\n</address-list>\n"));
        assert_eq!((has(&lists, "ann@example.net"), has(&lists, "bob@example.net")), (Some(false), Some(true)));
        assert!(index().is_none());
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone_until_it_stays_as_it_is() {
        let place = Place::new();
        place.write("ann@example.net\n");
        let (every, settled) = (Duration::from_millis(20), Duration::from_millis(500));
        let watching = Watching { cache: place.path("cache"), every, settled, small: 1 << 20 };
        let lists = AddressLists::start(Hasher::default(), watching).unwrap();
        lists.use_config(&place.config(LIST));
        let mut text = String::new();
        for n in 0..40 {
            text.push_str(&format!("user{n}@example.net\n"));
            // In place, so that a reader may see a part of it.
            fs::write(place.path("list"), &text).unwrap();
            let (first, part) = (has(&lists, "ann@example.net"), has(&lists, "user0@example.net"));
            assert!(first == Some(true) || part == Some(true), "some whole state is in force");
            std::thread::sleep(Duration::from_millis(5));
        }
        until("all of it", &lists, || has(&lists, "user39@example.net") == Some(true));
        assert_eq!((has(&lists, "ann@example.net"), has(&lists, "user0@example.net")), (Some(false), Some(true)));
    }
}
