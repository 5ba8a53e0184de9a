//! `simulate --replay FILE`: the units of a recording. A request that was recorded gets the answers that it got then, one
//! after the other and from the first again; one that was not recorded, or was not answered, gets silence.
//!
//! On TCP the transaction number is that of the request; on a pseudo-terminal a request ends where a recorded one does.

use super::wire::{Link, Pty};
use crate::{drivers::line::capture, limits, model::WireFrame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// What was recorded: by request, the answers in their order and which is next.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Vec<u8>, (Vec<Vec<u8>>, usize)>,
}

impl Book {
    pub fn of(frames: &[WireFrame]) -> Book {
        let mut book = Book::default();
        for (request, answer) in capture::exchanges(frames) {
            book.entries.entry(key(&request).to_vec()).or_default().0.push(answer);
        }
        book
    }

    pub fn read(path: &Path) -> anyhow::Result<Book> {
        let text = std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", path.display()))?;
        let frames = capture::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        let book = Book::of(&frames);
        anyhow::ensure!(!book.entries.is_empty(), "{} holds no request", path.display());
        Ok(book)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a recorded request off the front of what came. `None`: none is there yet.
    fn take(&mut self, heard: &mut Vec<u8>) -> Option<Vec<u8>> {
        while !heard.is_empty() {
            let is_there = |request: &Vec<u8>| key(heard).starts_with(request);
            if let Some((request, (answers, next))) = self.entries.iter_mut().filter(|(r, _)| is_there(r)).max_by_key(|(r, _)| r.len()) {
                let (len, head) = (heard.len() - key(heard).len() + request.len(), [heard[0], heard.get(1).copied().unwrap_or(0)]);
                let mut answer = answers[*next % answers.len()].clone();
                *next += 1;
                if is_mbap(&heard[..len]) && answer.len() > 2 {
                    answer[..2].copy_from_slice(&head);
                }
                heard.drain(..len);
                return Some(answer);
            }
            let may_come = self.entries.keys().any(|request| request.starts_with(key(heard)) || heard.len() < 8);
            if may_come {
                return None;
            }
            // Nothing recorded begins so: an unknown request is skipped byte by byte.
            heard.remove(0);
        }
        None
    }
}

/// What tells one request from another: a transaction number does not.
fn key(request: &[u8]) -> &[u8] {
    if is_mbap(request) { &request[2..] } else { request }
}

fn is_mbap(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, 0, 0, high, low, body @ ..] if usize::from(u16::from_be_bytes([*high, *low])) == body.len())
}

type Shared = Arc<Mutex<Book>>;

/// Serves one port for ever; connections one after the other, as a serial server does.
pub fn serve_tcp(listener: TcpListener, book: Shared) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away ends its own turn.
            let _ = talk(stream, &book);
        }
    });
}

fn talk(mut stream: TcpStream, book: &Shared) -> std::io::Result<()> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 512]);
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        for answer in answers(book, &mut heard, &buffer[..n]) {
            stream.write_all(&answer)?;
        }
    }
}

fn answers(book: &Shared, heard: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    heard.extend(bytes);
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let out = std::iter::from_fn(|| book.take(heard)).collect();
    heard.truncate(limits::SITE_HEARD_BYTES);
    out
}

/// Serves a pseudo-terminal behind a link until told to stop.
pub fn serve_pty(link: &Path, book: Shared, stop: CancellationToken) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let pty = Pty::open()?;
    let held = pty.hold()?;
    let link = Link::make(link, &pty.path)?;
    Ok(std::thread::spawn(move || {
        let _keep = (held, link);
        let (mut heard, mut buffer) = (Vec::new(), [0; 512]);
        while !stop.is_cancelled() {
            let mut fds = [PollFd::new(pty.ours(), PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })) != Ok(1) {
                continue;
            }
            let Ok(n) = rustix::io::read(pty.ours(), &mut buffer) else { continue };
            for answer in answers(&book, &mut heard, &buffer[..n]) {
                let _ = rustix::io::write(pty.ours(), &answer);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(text: &str) -> Book {
        Book::of(&capture::parse(text).expect("readable"))
    }

    #[test]
    fn recorded_requests_get_their_recorded_answers_in_turn() {
        let mut book = book("+0 > 01 03 00\n+0.1 < 01 03\n+0.2 < 07\n+1 > 01 03 00\n+1.1 < 01 83\n+2 > 02 03\n");
        let mut heard = vec![1, 3, 0, 1];
        assert_eq!(book.take(&mut heard), Some(vec![1, 3, 7]));
        assert_eq!(book.take(&mut heard), None);
        heard.extend([3, 0]);
        assert_eq!(book.take(&mut heard), Some(vec![1, 0x83]));
        heard.extend([1, 3, 0]);
        assert_eq!(book.take(&mut heard), Some(vec![1, 3, 7]), "from the first again");
        heard.extend([2, 3]);
        assert_eq!(book.take(&mut heard), Some(vec![]), "silent then, silent now");
        heard.extend([9; 20]);
        assert_eq!(book.take(&mut heard), None);
    }

    #[test]
    fn a_tcp_answer_has_the_transaction_of_the_request() {
        let mut book = book("+0 > 00 01 00 00 00 06 01 03 00 0a 00 01\n+0.1 < 00 01 00 00 00 05 01 03 02 00 07\n");
        let mut heard = vec![0xab, 0xcd, 0, 0, 0, 6, 1, 3, 0, 10, 0, 1];
        assert_eq!(book.take(&mut heard), Some(vec![0xab, 0xcd, 0, 0, 0, 5, 1, 3, 2, 0, 7]));
        assert!(heard.is_empty());
    }
}
