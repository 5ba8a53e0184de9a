//! One owner per line: a pure core, driven by a thread on a serial port and by a task on TCP.
