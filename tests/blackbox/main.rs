//! Black-box tests: the real process, a real mosquitto, Modbus servers that share no code with it.
//!
//! One promise of the product per test, named after it. Each test has a gateway, a broker and field servers of its own on
//! ports that the system chose, so all can run at once. Tests wait for events, never for a length of time, except where
//! time is what is tested (an outage of ten seconds lasts ten seconds). `FIELDGATE_LONG=1` gives each test the size that
//! the product is judged at; without it the same test runs in seconds.
//!
//! Absent on purpose: the crate's own codecs. The MQTT client, the collector and the servers are written from the
//! standards, so a mistake that both ends share cannot hide. From the library comes only the clock.

mod broker;
mod cloud;
mod field;
mod gateway;
mod judge;
mod keep;
mod liar;
mod mqtt;
mod process;
mod turn;
mod unit;
mod versions;
mod wait;
mod web;

mod check;
mod commands;
mod consume;
mod crowd;
mod daemon;
mod dead;
mod delivery;
mod demo;
mod disk;
mod endurance;
mod faults;
mod framed;
mod full;
mod heartbeats;
mod http;
mod lies;
mod links;
mod monitoring;
mod newcomer;
mod oddities;
mod orders;
mod pages;
mod plan;
mod presets;
mod publishers;
mod roundtrip;
mod rules;
mod schedules;
mod schemas;
mod secrets;
mod silence;
mod site;
mod state;
mod sunspec;
mod systemd;
mod unplug;
mod uplinks;
mod webhooks;
mod writes;
