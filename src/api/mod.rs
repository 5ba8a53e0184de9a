//! Surfaces for people and programs on this machine: the control socket.
