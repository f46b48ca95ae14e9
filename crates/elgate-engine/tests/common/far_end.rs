//! An HTTP far end made of a thread, whose answers the test decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub head: String,
    pub key: String,
    pub body: String,
}

/// What to do with a request.
pub enum Answer {
    /// Send these bytes and keep the connection.
    Send(&'static str),
    /// Close the connection without a word.
    Hang,
    /// Say nothing and keep the connection open.
    Silence,
}

pub const OK: Answer = Answer::Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

pub struct FarEnd {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
    port: u16,
}

impl FarEnd {
    /// `decide` sees every request and how many came before it.
    pub fn start(decide: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicBool::new(false));
        let (requests, stop, decide) = (Arc::clone(&seen), Arc::clone(&closed), Arc::new(decide));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (requests, decide) = (Arc::clone(&requests), Arc::clone(&decide));
                std::thread::spawn(move || serve(connection, &requests, &*decide));
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/in?x=1"), seen, closed, port }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("not poisoned").clone()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.seen().into_iter().map(|request| request.body).collect()
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    connection: TcpStream,
    seen: &Mutex<Vec<Request>>,
    decide: &dyn Fn(&Request, usize) -> Answer,
) {
    let mut writer = connection.try_clone().expect("a second handle");
    let mut reader = BufReader::new(connection);
    let mut silent = Vec::new();
    while let Some(request) = read_request(&mut reader) {
        let before = {
            let mut seen = seen.lock().expect("not poisoned");
            seen.push(request.clone());
            seen.len() - 1
        };
        match decide(&request, before) {
            Answer::Send(bytes) => {
                if writer.write_all(bytes.as_bytes()).is_err() {
                    return;
                }
            }
            Answer::Hang => return,
            Answer::Silence => silent.push(writer.try_clone()),
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let (mut head, mut length, mut key) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if lower.starts_with("idempotency-key:") {
            key = line["idempotency-key:".len()..].trim().to_owned();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, key, body: String::from_utf8_lossy(&body).into_owned() })
}
