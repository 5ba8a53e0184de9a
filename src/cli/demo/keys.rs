//! Key presses without enter, and a screen that is redrawn in place. The terminal is restored on drop.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{Read, Write},
    sync::mpsc,
    time::Duration,
};

/// Ctrl-C: a key like any other, because a program that dies of it leaves the terminal without echo and cursor.
pub const CTRL_C: u8 = 3;

pub struct Terminal {
    before: Termios,
    keys: mpsc::Receiver<u8>,
}

impl Terminal {
    /// `None` where stdin or stdout is no terminal.
    pub fn take() -> Option<Terminal> {
        if !std::io::IsTerminal::is_terminal(&std::io::stdin()) || !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return None;
        }
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        let (tx, keys) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            let mut byte = [0u8; 1];
            while std::io::stdin().read_exact(&mut byte).is_ok() && tx.send(byte[0]).is_ok() {}
        });
        print!("\x1b[?25l\x1b[2J");
        Some(Terminal { before, keys })
    }

    /// Waits at most so long for a key.
    pub fn key(&self, within: Duration) -> Option<u8> {
        self.keys.recv_timeout(within).ok()
    }

    pub fn draw(&self, lines: &[String]) {
        let mut frame = String::from("\x1b[H");
        let wide = crate::cli::out::width(std::io::stdout()).unwrap_or(usize::MAX);
        for line in lines {
            frame.push_str(&crate::cli::out::cut(line, wide, false));
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(frame.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        println!("\x1b[?25h");
        let _ = std::io::stdout().flush();
    }
}
