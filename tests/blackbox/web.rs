//! A small HTTP/1.1 and WebSocket client, written from RFC 9112 and RFC 6455: as much of it as the tests need.

use crate::process::host;
use serde_json::Value as Json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// One request on a connection of its own: status, content type, content.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub body: Json,
}

pub fn ask(port: u16, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
    let bearer = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let body = body.unwrap_or_default();
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{bearer}{length}\r\n");
    let answer = raw(port, &[head.as_bytes(), body.as_bytes()].concat());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("an answer has a status");
    let kind = head.lines().find_map(|l| l.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
    Answer { status, kind, body: serde_json::from_str(body).unwrap_or(Json::Null) }
}

/// Sends the bytes and reads until the other side closes.
pub fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect((host(), port)).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    // A refusal may come, and the connection end, before everything is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    pub fn open(port: u16, path: &str, token: &str) -> Socket {
        let mut stream = TcpStream::connect((host(), port)).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: fieldgate, token.{token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the answer has an end");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: fieldgate\r\n"), "{head}");
        Socket { stream }
    }

    /// The next text as JSON; the code of a close frame as a number.
    pub fn next(&mut self) -> Json {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).expect("a frame comes");
            let mut length = u64::from(head[1] & 0x7f);
            if length == 126 {
                let mut more = [0; 2];
                self.stream.read_exact(&mut more).expect("a length has two bytes");
                length = u64::from(u16::from_be_bytes(more));
            } else if length == 127 {
                let mut more = [0; 8];
                self.stream.read_exact(&mut more).expect("a length has eight bytes");
                length = u64::from_be_bytes(more);
            }
            let mut body = vec![0; usize::try_from(length).expect("it fits")];
            self.stream.read_exact(&mut body).expect("a frame is whole");
            match head[0] & 0x0f {
                1 => return serde_json::from_slice(&body).expect("messages are JSON"),
                8 => return u16::from_be_bytes([body[0], body[1]]).into(),
                _ => {}
            }
        }
    }

    /// A text, masked as a client must.
    pub fn say(&mut self, text: &str) {
        let mask = [1u8, 2, 3, 4];
        let length = u8::try_from(text.len()).expect("short") | 0x80;
        let body = text.bytes().zip(mask.iter().cycle()).map(|(b, m)| b ^ m);
        let frame: Vec<u8> = [0x81, length].into_iter().chain(mask).chain(body).collect();
        self.stream.write_all(&frame).expect("it is sent");
    }
}
