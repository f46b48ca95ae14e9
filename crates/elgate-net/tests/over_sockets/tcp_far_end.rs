//! The far end of plain blocking threads over TCP: shares nothing with what it tests.

use crate::far_end::{Act, Call, Script, Seen, take_request};
use crate::world::FarEnd;
use elgate_io::{Completion, Driver};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Default)]
struct Shared {
    seen: Seen,
    /// Read and written with sequential consistency, by the accepting thread and by drop.
    stopping: AtomicBool,
}

/// Stops and joins its threads when dropped. Those that serve end with their connections, so the
/// client and its driver go first.
pub(crate) struct TcpFarEnd {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl TcpFarEnd {
    pub(crate) fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let accepting = std::thread::spawn(move || accept_all(&listener, script, &of_thread));
        Self { shared, address, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl FarEnd for TcpFarEnd {
    fn handle(&mut self, _: &mut dyn Driver, completion: Completion) {
        panic!("not ours: {completion:?}");
    }

    fn seen(&self) -> &Seen {
        &self.shared.seen
    }
}

impl Drop for TcpFarEnd {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the far end did not panic");
        }
    }
}

fn accept_all(listener: &TcpListener, script: Script, shared: &Arc<Shared>) {
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.seen.connected();
        let of_thread = shared.clone();
        serving.push(std::thread::spawn(move || {
            // An error is the client's doing, and part of some tests.
            let _ = serve(stream, number, script, &of_thread);
        }));
    }
    for thread in serving {
        thread.join().expect("serving did not panic");
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Script,
    shared: &Shared,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(unread) = script.unread {
        stream.peek(&mut [0])?;
        return act(&mut stream, unread(), shared).map(drop);
    }
    let mut request = 0;
    let mut inbox = Vec::new();
    let mut bytes = vec![0; 65_536];
    loop {
        while let Some(body) = take_request(&mut inbox) {
            shared.seen.requested(body);
            if !act(&mut stream, (script.answer)(Call { connection, request }), shared)? {
                return Ok(());
            }
            request += 1;
        }
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => inbox.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Returns whether the connection goes on.
fn act(stream: &mut TcpStream, acts: Vec<Act>, shared: &Shared) -> std::io::Result<bool> {
    for act in acts {
        match act {
            Act::Send(bytes) => stream.write_all(&bytes)?,
            Act::WaitMs(milliseconds) => wait(Duration::from_millis(milliseconds)),
            Act::AwaitRequests(count) => {
                while shared.seen.requests() < count && !shared.stopping.load(Ordering::SeqCst) {
                    wait(Duration::from_millis(1));
                }
            }
            Act::Close => return Ok(false),
        }
    }
    Ok(true)
}

/// The far end's own slowness, which is what is being tested.
fn wait(duration: Duration) {
    let (_keep, never) = mpsc::sync_channel::<()>(0);
    let _ = never.recv_timeout(duration);
}
