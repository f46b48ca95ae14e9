//! What a case works with: a driver, a place for files, and ways to wait for completions.

use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_io::{
    BackendChoice, Buffer, Commit, Completion, Driver, DriverOptions, File, Listener, Op,
    OpenOptions, Outcome, Platform, Socket, Token, Wait, open_driver,
};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// No single wait of a case takes longer unless something is broken.
const LIMIT: Duration = Duration::from_secs(20);

/// A submission queue far smaller than what the cases submit at once.
pub(crate) const OPTIONS: DriverOptions = DriverOptions {
    ring_entries: 32,
    file_threads: 3,
    blocking_threads: 2,
    arena_bytes: 1 << 20,
    huge_pages: false,
    commit: Commit::Dsync,
    sqpoll: false,
};

pub(crate) struct World {
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) sim: Option<SimWorld>,
    directory: PathBuf,
    stash: Vec<Completion>,
    next_token: Token,
    _temporary: Option<tempfile::TempDir>,
}

impl World {
    /// `None`, aloud, where this machine refuses io_uring.
    pub(crate) fn uring(case: &str, options: &DriverOptions) -> Option<Self> {
        match open_driver(BackendChoice::Uring, options) {
            Ok(driver) => {
                let world = Self::os(driver);
                assert_eq!(world.fact("commit").as_deref(), Some(options.commit.name()));
                let sqpoll = world.fact("sqpoll").unwrap();
                match options.sqpoll {
                    true if sqpoll != "on" => {
                        assert!(sqpoll.starts_with("refused: "), "{sqpoll}");
                        eprintln!("without sqpoll: uring::{case}: {sqpoll}");
                    }
                    wanted => assert_eq!(sqpoll, if wanted { "on" } else { "off" }),
                }
                Some(world)
            }
            Err(error) => {
                eprintln!("skipped: uring::{case}: {error}");
                None
            }
        }
    }

    /// `None`, aloud, where this machine refuses io_uring.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn tokio_uring(case: &str) -> Option<Self> {
        match open_driver(BackendChoice::TokioUring, &OPTIONS) {
            Ok(driver) => Some(Self::os(driver)),
            Err(error) => {
                eprintln!("skipped: tokio_uring::{case}: {error}");
                None
            }
        }
    }

    pub(crate) fn poll() -> Self {
        Self::os(open_driver(BackendChoice::Poll, &OPTIONS).unwrap())
    }

    pub(crate) fn sim(seed: u64) -> Self {
        let sim = SimWorld::new(seed);
        let plan = FaultPlan { partial_transfer_per_mille: 300, ..FaultPlan::default() };
        sim.set_faults(plan);
        let mut world = Self::new(Box::new(sim.driver()), PathBuf::from("/files"), None);
        world.platform.create_directories(Path::new("/files")).unwrap();
        world.sim = Some(sim);
        world
    }

    fn os(driver: Box<dyn Driver>) -> Self {
        // On the disk that the build is on: the system's temporary directory may be in memory.
        let place = std::env::var_os("ELGATE_IO_TEST_DIRECTORY")
            .unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        let temporary = tempfile::tempdir_in(place).unwrap();
        Self::new(driver, temporary.path().to_owned(), Some(temporary))
    }

    fn new(
        driver: Box<dyn Driver>,
        directory: PathBuf,
        temporary: Option<tempfile::TempDir>,
    ) -> Self {
        let platform = driver.platform();
        Self {
            driver,
            platform,
            sim: None,
            directory,
            stash: Vec::new(),
            next_token: 1,
            _temporary: temporary,
        }
    }

    /// What the driver says under that name.
    pub(crate) fn fact(&self, name: &str) -> Option<String> {
        let facts = self.driver.info().facts;
        facts.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Drops the driver; another takes its place.
    pub(crate) fn drop_driver(&mut self) {
        self.driver = match &self.sim {
            Some(sim) => Box::new(sim.driver()),
            None => open_driver(BackendChoice::Poll, &OPTIONS).unwrap(),
        };
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn file(&self, name: &str) -> File {
        let options =
            OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() };
        self.platform.open(&self.path(name), options).unwrap()
    }

    /// `None`, aloud, where the file system has no direct I/O.
    pub(crate) fn direct_file(&self, name: &str) -> Option<File> {
        let options = OpenOptions {
            read: true,
            write: true,
            create: true,
            direct: true,
            ..OpenOptions::default()
        };
        match self.platform.open(&self.path(name), options) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                eprintln!("skipped: this file system has no direct I/O");
                None
            }
            file => Some(file.unwrap()),
        }
    }

    /// A file on a disk without any space left.
    pub(crate) fn file_on_full_disk(&self) -> File {
        match &self.sim {
            None => {
                let options = OpenOptions { write: true, ..OpenOptions::default() };
                self.platform.open(Path::new("/dev/full"), options).unwrap()
            }
            Some(sim) => {
                let file = self.file("full");
                sim.set_faults(FaultPlan { enospc_after_bytes: Some(0), ..FaultPlan::default() });
                file
            }
        }
    }

    pub(crate) fn listen(&self) -> (Listener, SocketAddr) {
        self.platform.listen("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    pub(crate) fn submit(&mut self, op: Op) -> Token {
        self.next_token += 1;
        self.driver.submit(self.next_token, op);
        self.next_token
    }

    /// Polls until the operation has ended.
    pub(crate) fn wait(&mut self, token: Token) -> Completion {
        let deadline = self.driver.now().after(LIMIT);
        loop {
            if let Some(index) = self.stash.iter().position(|found| found.token == token) {
                return self.stash.remove(index);
            }
            assert!(self.driver.now() < deadline, "operation {token} does not end");
            self.driver.poll(Wait::Until(deadline), &mut self.stash).unwrap();
        }
    }

    /// Polls until so many operations have ended, and returns them in that order.
    pub(crate) fn wait_for(&mut self, count: usize) -> Vec<Completion> {
        let deadline = self.driver.now().after(LIMIT);
        while self.stash.len() < count {
            assert!(self.driver.now() < deadline, "{} of {count} ended", self.stash.len());
            self.driver.poll(Wait::Until(deadline), &mut self.stash).unwrap();
        }
        std::mem::take(&mut self.stash)
    }

    /// Drops what has ended and nobody waited for, buffers included.
    pub(crate) fn forget_ended(&mut self) {
        self.stash.clear();
    }

    pub(crate) fn run(&mut self, op: Op) -> Completion {
        let token = self.submit(op);
        self.wait(token)
    }

    /// Starts what was submitted, as far as that needs a poll.
    pub(crate) fn begin(&mut self) {
        self.driver.poll(Wait::Never, &mut self.stash).unwrap();
    }

    pub(crate) fn connect(&mut self, listener: &Listener, address: SocketAddr) -> (Socket, Socket) {
        let connecting = self.submit(Op::Connect { address });
        let accepting = self.submit(Op::Accept { listener: listener.clone() });
        let near = match self.wait(connecting).result.unwrap() {
            Outcome::Connected(socket) => socket,
            other => panic!("{other:?}"),
        };
        match self.wait(accepting).result.unwrap() {
            Outcome::Accepted(far, from) => {
                assert!(from.ip().is_loopback());
                (near, far)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends everything, however many sends it takes.
    pub(crate) fn send_all(&mut self, socket: &Socket, bytes: &[u8]) {
        let mut buffer = Buffer::copy_of(bytes);
        let mut offset = 0;
        while offset < bytes.len() {
            let ended = self.run(Op::Send { socket: socket.clone(), buffer, offset });
            offset += count(&ended);
            buffer = ended.buffer.unwrap();
        }
    }

    pub(crate) fn receive(&mut self, socket: &Socket) -> Vec<u8> {
        let buffer = Buffer::with_capacity(4_096);
        let ended = self.run(Op::Receive { socket: socket.clone(), buffer });
        let buffer = ended.buffer.as_ref().unwrap();
        assert_eq!(count(&ended), buffer.len());
        buffer.to_vec()
    }
}

/// The bytes a successful operation moved.
pub(crate) fn count(completion: &Completion) -> usize {
    match &completion.result {
        Ok(Outcome::Bytes(count)) => *count,
        other => panic!("{other:?}"),
    }
}

/// The error number an operation failed with.
pub(crate) fn errno(completion: &Completion) -> i32 {
    match &completion.result {
        Err(error) => error.raw_os_error().unwrap_or_else(|| panic!("no number: {error}")),
        Ok(outcome) => panic!("succeeded: {outcome:?}"),
    }
}
