//! Every queue size, ceiling and row cap, with its reason and with what happens when it is reached.

use std::time::Duration;

/// Status, replies, commands and line changes. Full: the door waits, so a line polls later and MQTT reads slower.
pub const URGENT: usize = 1024;
/// Urgent messages handled before timers and telemetry get a turn, so that a flood of status starves nobody.
pub const URGENT_TURN: usize = 64;
/// Readings: one full round of 64 devices x 16 requests may sit here while the engine commits.
/// Full: TCP lines wait (periods stretch, missed polls are counted); a serial line keeps the reading and polls later.
pub const BULK: usize = 1024;
/// Orders that wait for their turn on one line. Full: the command is rejected as busy.
pub const LINE_ORDERS: usize = 64;
/// Requests of site tools that wait for their turn on one line. Full: the request is answered "not sent".
pub const SITE_JOBS: usize = 8;
/// Line time that requests of site tools may take while polls are due, so that a long scan starves no device. Reached:
/// the next request waits.
pub const SITE_SHARE_PERCENT: u32 = 50;
/// The last bytes sent and heard on one line, with their moments. Full: the oldest frames go.
pub const CAPTURE_BYTES: usize = 16 * 1024;
/// The same on all TCP lines together, where a line is mostly one device and a site may have hundreds; a few longest frames
/// at least, and no more than a serial line has. Full: the oldest frames go.
pub const CAPTURE_BYTES_TCP: usize = 256 * 1024;
/// Frames in one answer of the control socket. More: the next question gets them.
pub const FRAMES_PER_ANSWER: usize = 1000;
/// So long a site tool's request may wait for its turn on a line of the daemon. Reached: it is answered "not sent".
pub const SITE_WAIT: Duration = Duration::from_secs(15);
/// Bytes kept of what was heard while a site tool's request was on the wire. More: the rest is not reported.
pub const SITE_HEARD_BYTES: usize = 1024;
/// Local messages on their way to subscribers. Full: QoS 0 status publications are dropped and counted.
pub const LOCAL_MESSAGES: usize = 1024;
/// Changes on their way to the database writer. Full: the engine waits.
pub const STORE_CHANGES: usize = 256;
/// Changes that the disk refused, kept to be stored when it works again. Full: the oldest goes, ends of commands last.
pub const UNSTORED: usize = 4_096;
/// Earlier boots that a first synchronisation corrects, each with an event. More, on a site that ran for months without:
/// the oldest keep their estimate.
pub const BOOTS_SETTLED: usize = 64;
/// How far a boot has come is written so often, so that a later one knows the time at least to this; 24 small commits a day.
pub const CLOCK_KEPT_EVERY: Duration = Duration::from_secs(3600);
/// Offsets of clocks kept for whoever looks back. Full: the oldest go.
pub const CLOCK_ROWS: u32 = 1_000;
/// Changes in one transaction: a group commit.
pub const STORE_GROUP: usize = 256;
/// Devices judged offline in one turn of the engine, so that a hundred thousand that fall silent together hold nothing else
/// up. More: they come with the next turn.
pub const EXPIRE_TURN: usize = 1_000;
/// Changes of devices that changed together, in one transaction. More: several.
pub const MOVES_GROUP: usize = 2 * EXPIRE_TURN;
/// Changes of devices that wait in the engine for the writer: an event and a row for each of a hundred thousand devices, which
/// are judged in their time however long the disk needs. Full: silence is judged when the writer has taken some, and for any
/// other move the engine waits.
pub const MOVES_WAITING: usize = 200_000;
/// Devices that are put on the device list in one turn of the engine. More: the list is told some turns later.
pub const CARDS_TURN: usize = 2_000;

/// A batch is sealed at so many samples, so that no message grows beyond what brokers take.
pub const BATCH_SAMPLES: usize = 5_000;
/// A message's payload is kept below this: many brokers refuse 256 KiB and more.
pub const MESSAGE_BYTES: usize = 128 * 1024;
/// Messages of one stream that a broker does not take, held to be tried again one by one. Full: nothing further of that
/// stream is sent until one of them has ended.
pub const SUSPECTS: usize = 32;
/// A broker that takes smaller packets than this is refused: one sample with its envelope must fit.
pub const PACKET_MIN: u32 = 4096;
/// A command that could not be stored is brought again by connecting anew, so long after it came.
pub const COMMAND_AGAIN: Duration = Duration::from_secs(30);
/// Uplinks of one gateway: a bit for each beside every batch. More: a problem.
pub const UPLINKS: usize = 8;
/// Brokers of one uplink beside its first. More: a problem.
pub const BROKERS: usize = 8;
/// On another broker than the preferred one, the preferred one is tried again after so long.
pub const BROKER_RETURN: Duration = Duration::from_secs(600);
/// Messages in flight to one uplink at first. Later as many as keep the link busy while answers come at once…
pub const UPLINK_IN_FLIGHT_START: usize = 32;
/// …at least this many, however slow the answers are…
pub const UPLINK_IN_FLIGHT_MIN: usize = 4;
/// …and at most this many. Also bounds what a lost connection sends twice. Reached: the next waits for an answer.
pub const UPLINK_IN_FLIGHT: usize = 1024;
/// The same in bytes, for links that are narrow rather than long: at first…
pub const UPLINK_BYTES_START: usize = 32 * 1024;
/// …at least…
pub const UPLINK_BYTES_MIN: usize = 8 * 1024;
/// …and at most. One message may always go, whatever its size.
pub const UPLINK_BYTES: usize = 2 * 1024 * 1024;
/// An optional uplink may hold this share of `disk_max`, and of the events, alone. More: it loses the oldest, and a gap event names it.
pub const OPTIONAL_SHARE: u64 = 4;
/// What every required uplink has, and only an optional one still wants, is written this long after it was sealed, so
/// that an optional cloud that is away wears the card little. A kill loses at most so much of it.
pub const OPTIONAL_WINDOW: Duration = Duration::from_secs(10);
/// A dead letter's body is cut here.
pub const DEAD_LETTER_BYTES: usize = 4096;
/// Dead letters kept. Full: the oldest goes.
pub const DEAD_LETTERS: u64 = 10_000;
/// Events kept for the cloud. Full: the oldest progress and status events go first, announced by a gap event.
pub const EVENTS: u64 = 200_000;
/// The same in bytes, so that a state.db with an outage behind it stays small beside the spool: an eighth of
/// `buffer.disk_max`, at least…
pub const EVENT_BYTES_MIN: u64 = 1024 * 1024;
/// …and at most this. Full: as above.
pub const EVENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Events that share one message and number. More in one transaction: several messages.
pub const EVENTS_PER_MESSAGE: usize = 256;
/// The text of one event message as stored; also several messages.
pub const EVENT_MESSAGE_BYTES: usize = 64 * 1024;
/// Event messages read ahead of the uplink. More: they wait on the disk.
pub const EVENTS_IN_RAM: usize = 256;
/// Events kept in RAM for who looks on the spot, whether the cloud has them or not. More: the oldest go; changes of devices are
/// in the status history.
pub const EVENTS_SHOWN: usize = 200;
/// Rows of status history, of all devices together. Full: the oldest go.
pub const STATUS_HISTORY: u64 = 200_000;
/// The same of one device, so that one that flaps for weeks leaves the others their past. Full: its oldest go, now and then.
pub const STATUS_HISTORY_OF_ONE: u32 = 20_000;
/// Alarms kept, of all devices together. Full: the oldest that are over go; those that are raised stay.
pub const ALARMS: u64 = 20_000;
/// Switched points whose state is kept, of all devices together. More: the rest is only telemetry.
pub const RELAYS: usize = 20_000;
/// A switched point is written at most this often, so that one that chatters wears no card. Sooner: the latest of it waits, and
/// the row says how often it had switched.
pub const RELAY_EVERY: Duration = Duration::from_secs(1);
/// Rows of their history, of all devices together. Full: the oldest go.
pub const RELAY_HISTORY: u64 = 100_000;
/// The same of one device, so that one that never rests leaves the others their past. Full: its oldest go, now and then.
pub const RELAY_HISTORY_OF_ONE: u32 = 10_000;
/// What one device may say of itself beside its values. More names: the rest is not kept.
pub const ATTRIBUTES: usize = 32;
/// One of them, in bytes. Longer: cut.
pub const ATTRIBUTE_BYTES: usize = 256;
/// What a device says of itself is written at most this often, so that one whose every message differs wears no card. Sooner:
/// the latest of it waits.
pub const ATTRIBUTES_EVERY: Duration = Duration::from_secs(60);
/// Who put a device in maintenance and why, in bytes each. Longer: cut.
pub const MAINTENANCE_TEXT: usize = 256;

/// Readings for the local history that are not written yet. At half of it a commit begins; full (the disk is slow): the newest
/// are left out of the history and counted. Upstream nothing is missing.
pub const SAMPLES_RAM: usize = 4 * 1024 * 1024;
/// Free space below which nothing is written for the local history, so that it is the first to stop where a disk fills up.
pub const SAMPLES_FREE: u64 = 8 * 1024 * 1024;
/// Slots of one question to the local history. More: the question is refused.
pub const SAMPLES_SLOTS: u32 = 2_000;
/// Samples that one answer of the local history holds. More: it ends there and says where to go on.
pub const SAMPLES_ROWS: usize = 20_000;

/// Telemetry in RAM that is not acknowledged: several seconds at full speed, for a disk that is slow. Full (the disk is
/// failing or full while the cloud is away): the oldest unsaved batch goes, announced by a gap event.
pub const SPOOL_RAM_BYTES: usize = 8 * 1024 * 1024;
/// The same in batches, so that many small ones are bounded too.
pub const SPOOL_RAM_BATCHES: usize = 8_192;
/// A segment's body is split above this, so that one transaction and its log stay small.
pub const SPOOL_SEGMENT_BYTES: usize = 256 * 1024;
/// And above so many samples: reading a segment back costs about 30 bytes of RAM for each.
pub const SPOOL_SEGMENT_SAMPLES: u64 = 40_000;
/// Bodies that one run of thinning reads, so that a second of reports waits at most for it. More: the next run.
pub const SPOOL_THIN_BYTES: u64 = 4 * 1024 * 1024;
/// Samples that it holds in RAM: about 30 bytes each. More: it ends there, and windows are cut at its end.
pub const SPOOL_THIN_SAMPLES: u64 = 60_000;
/// Kept on the file system for state.db when others fill it: its log of 800 KiB and some hundred events. Full: it is
/// removed, so that events and commands can be written.
pub const RESERVE_BYTES: u64 = 1024 * 1024;
/// Bytes of free pages that each database keeps in itself where there is room, for a file system that becomes full. Used up:
/// state.db gets the reserve, the spool drops its oldest.
pub const FREE_BYTES: u64 = 512 * 1024;
/// A segment's body while the file system is full, so that the log of the spool stays within what it has.
pub const SPOOL_SEGMENT_BYTES_FULL: usize = 16 * 1024;
/// Series in the spool's dictionary, which only grows. Full: new series are named in full in each segment.
pub const SPOOL_SERIES: usize = 50_000;
/// A failed write to the disk is tried again after this…
pub const WRITE_RETRY_MIN: Duration = Duration::from_secs(1);
/// …doubling up to this.
pub const WRITE_RETRY_MAX: Duration = Duration::from_secs(10);
/// Damaged databases kept for whoever wants to look, of each of the two files. More: the oldest are deleted.
pub const QUARANTINE_FILES: usize = 3;
/// The same in bytes, with their logs: one ring of the default size. More: the oldest are deleted, if it must be all.
pub const QUARANTINE_BYTES: u64 = 512 << 20;
/// Rows or segments that one turn of the writer carries out of a damaged spool, so that changes never wait long behind it.
pub const SALVAGE_BYTES: usize = 1024 * 1024;
/// Turns that the stop gives to a spool that is being replaced. Over: the old file stays, and the next start goes on.
pub const MEND_TURNS: usize = 1000;
/// Time for carrying what can be read out of a damaged state.db; the table that matters least is last. Over: the rest stays
/// in the file that was put aside.
pub const SALVAGE_STATE: Duration = Duration::from_secs(20);
/// Looking through state.db at the start, which waits for it, and through a file that seems damaged. Over: it is taken as it
/// is.
pub const CHECK_WITHIN: Duration = Duration::from_secs(2);
/// Looking through spool.db after the start, at low priority, while everything runs. Over: the rest is not looked at.
pub const CHECK_BEHIND: Duration = Duration::from_secs(120);
/// A commit that takes longer is news: `status` and an event call the disk slow. Nothing is given up for it but what no longer
/// fits in RAM.
pub const SLOW_COMMIT: Duration = Duration::from_secs(1);
/// So long without one and the disk is well again.
pub const SLOW_OVER_AFTER: Duration = Duration::from_secs(60);
/// The figures of wear go along with a commit at most this often. A kill forgets so much of them.
pub const WEAR_EVERY: Duration = Duration::from_secs(600);
/// The writer comes round at least this often, for the watchdog.
pub const WRITER_TURN: Duration = Duration::from_secs(5);
/// A run that ended in less was no run: the defect that ended it is there at each start.
pub const RUN_LASTED: Duration = Duration::from_secs(60);
/// So many such ends in a row are answered at once; the next start waits a second, and each further one twice as long…
pub const RESTARTS_AT_ONCE: u32 = 2;
/// …up to this: 1,440 starts a day, which a card bears.
pub const RESTART_WAIT: Duration = Duration::from_secs(60);

/// A payload from a local publisher or the cloud. Larger: dead letter, acknowledged.
pub const PAYLOAD_BYTES: usize = 256 * 1024;
/// Connections to our own MQTT endpoint. Full: refused with "server unavailable".
pub const MQTT_CONNECTIONS: usize = 2_000;
/// Unacknowledged messages of one local publisher. Full: its socket is not read until one is settled.
pub const MQTT_HELD: usize = 100;
/// Messages waiting for one local subscriber. Full: QoS 0 is dropped and counted; QoS 1 disconnects a subscriber that
/// reads too slowly, and is dropped for one that is away. Retained messages at subscribing do not count.
pub const MQTT_QUEUE: usize = 1_000;
/// Bytes waiting for one local subscriber. Full: as above.
pub const MQTT_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes waiting for all local subscribers together, so that many slow ones cannot fill the memory. Full: as above.
pub const MQTT_QUEUE_BYTES_ALL: usize = 64 * 1024 * 1024;
/// QoS 1 messages on their way to one local subscriber. Full: the rest waits in its queue.
pub const MQTT_IN_FLIGHT: usize = 64;
/// Retained topics. Full: a further one is delivered, but not retained, and that is said once.
pub const MQTT_RETAINED: usize = 20_000;
/// Bytes of retained payloads and topics. Full: as above.
pub const MQTT_RETAINED_BYTES: usize = 32 * 1024 * 1024;
/// Sessions of clients that are away (clean session not set). Full: the one that is away longest is forgotten.
pub const MQTT_SESSIONS: usize = 1_000;
/// Subscriptions of one client. Full: refused in the SUBACK.
pub const MQTT_SUBSCRIPTIONS: usize = 1_000;
/// Unacknowledged messages from an external broker. Full: it is not read until one is settled.
pub const MQTT_BROKER_HELD: usize = 20_000;
/// Points that one MQTT payload may become. More: dead letter.
pub const MQTT_LEAVES: usize = 1_000;
/// Texts that one MQTT payload may hold, in bytes as JSON: with their names they stay one message that brokers take.
/// A single one that no broker takes would stand before everything else for ever. More: dead letter.
pub const MQTT_TEXT_BYTES: usize = 64 * 1024;
/// Names remembered of one route's payloads, in bytes, so that a device whose names never repeat fills no memory. Full:
/// forgotten and learned anew.
pub const MQTT_NAME_BYTES: usize = 512 * 1024;
/// Nesting of a JSON payload. Deeper: dead letter.
pub const JSON_DEPTH: usize = 32;
/// Webhooks. More: an error of the configuration.
pub const WEBHOOKS: usize = 8;
/// Devices that messages may register by themselves. More: dead letter with that reason.
pub const REGISTERED_DEVICES: usize = 20_000;
/// Command ids remembered, for duplicates; older than this count or age are forgotten.
pub const COMMANDS_KEPT: u64 = 100_000;
pub const COMMANDS_KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);
/// Facts learned about devices and lines. Full: the one that was learned longest ago goes and is learned again.
pub const LEARNED: u32 = 50_000;
/// Commands accepted and not yet ended. Full: rejected as busy.
pub const COMMANDS_OPEN: usize = 1_000;
/// Devices of one command, so that its parts fit into one commit and its result into one event. More: refused.
pub const FAN_OUT: usize = 100;
/// The id of such a command in bytes: each part is named after it and its device. Longer: refused.
pub const FAN_ID: usize = 63;
/// What the result of such a command tells of the values of all its devices, in bytes. More: those of the devices behind are left
/// out, and the result of each part has them.
pub const FAN_VALUES: usize = 16 * 1024;
/// And of why it ended so at one device. Longer: cut.
pub const FAN_REASON: usize = 200;
/// Values in an answer of the gateway itself, such as a state for each device. More: the first by id, and how many are left out.
pub const ANSWER_VALUES: usize = 500;
/// Wishes for what only the whole program can do (restart, reload, rebirth). Full: rejected as busy.
pub const WISHES: usize = 4;
/// Problems of a configuration that the refusal of a reload tells. More: their count; `fieldgate check` shows all.
pub const RELOAD_PROBLEMS: usize = 3;

/// Schedules, those of the configuration and those that were added together. Full: one that has run for the last time makes
/// room; without one, a further one is refused.
pub const SCHEDULES: usize = 200;
/// Points that one run of a schedule writes. More: refused.
pub const SCHEDULE_WRITES: usize = 32;
/// A run that begins no later than this after its time is on time: a restart fits into it. Later: it was missed.
pub const SCHEDULE_GRACE: Duration = Duration::from_secs(60);
/// Missed runs that `missed = "all"` makes up for. More: the newest so many, and the event says how many there were.
pub const SCHEDULE_CATCH_UP: usize = 100;
/// Missed runs are looked for so far back. Longer: those before are not counted.
pub const SCHEDULE_LOOK_BACK: Duration = Duration::from_secs(400 * 86_400);
/// A run that could not be remembered is tried again after this.
pub const SCHEDULE_AGAIN: Duration = Duration::from_secs(10);
/// A clock that was synchronised in this boot is trusted to run schedules until it may be off by so much: 20 days without a
/// time server, by the kernel's own assumption. Over: schedules wait for the next synchronisation.
pub const SCHEDULE_CLOCK_ERROR: Duration = Duration::from_secs(15 * 60);
/// Runs of each schedule that are kept with what came of them. More: the oldest go.
pub const SCHEDULE_RUNS: u32 = 10;
/// What one run wrote is not begun later than this after it: as a command that does not say.
pub const SCHEDULE_EXPIRES: Duration = Duration::from_secs(60);
/// Files of time zones are read anew so often: the machine's updates bring new rules.
pub const ZONES_EVERY: Duration = Duration::from_secs(86_400);
/// The file of a time zone. Longer: it is none.
pub const ZONE_BYTES: u64 = 256 * 1024;

/// A configuration file, profile or CSV. Larger: refused by `check` and `run`.
pub const CONFIG_BYTES: usize = 32 << 20;
/// Devices that a configuration's groups may make. More: a problem.
pub const CONFIG_DEVICES: usize = 5_000;
/// Points of all devices together. More: a problem.
pub const CONFIG_POINTS: usize = 500_000;
/// Problems collected of one configuration; further ones are not kept.
pub const CONFIG_PROBLEMS: usize = 2_000;

/// A frame of framed serial (`max_bytes`, `length`). More: a problem; a longer frame is garbled.
pub const FRAME_BYTES: usize = 4096;

/// The bar after a timeout or a garbled frame is at least this long (and twice the worst lateness seen).
pub const BAR_MIN: Duration = Duration::from_secs(1);
/// A unit's timeout is raised by itself up to this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// A refresh that found no turn on its line within this is left out, so that a command never waits long behind it.
pub const REFRESH_WITHIN: Duration = Duration::from_secs(5);
/// A setup that a device did not accept is sent again after this…
pub const SETUP_RETRY_MIN: Duration = Duration::from_secs(1);
/// …doubling up to this.
pub const SETUP_RETRY_MAX: Duration = Duration::from_secs(60);
/// Probes of a dead device back off from this…
pub const PROBE_MIN: Duration = Duration::from_millis(500);
/// …to this.
pub const PROBE_MAX: Duration = Duration::from_secs(60);
/// Commands, setups and site tools go before polls for so long; then one poll that is due has its turn. A flood of commands
/// to a slow unit slows the polls of a line, and stops none.
pub const ORDERS_BEFORE_POLL: Duration = Duration::from_secs(1);
/// All probes of a line together have this share of it, in percent.
pub const PROBE_SHARE_PERCENT: u64 = 3;

/// Requests that one poll may send to learn what its device refuses: a search in 125 registers takes 14 for one hole.
/// Reached: the next poll goes on, with what was found by then.
pub const LEARN_PER_POLL: usize = 64;
/// A refusal is believed when it is repeated after this: a unit that boots refuses for seconds what it serves later.
pub const LEARN_CONFIRM: Duration = Duration::from_secs(10);
/// A hole is asked again after this…
pub const RELEARN_MIN: Duration = Duration::from_secs(600);
/// …doubling up to this: a new firmware may fill it. One request a day does not burden any line.
pub const RELEARN_MAX: Duration = Duration::from_secs(86_400);
/// Holes remembered of one device. Full: further refused requests stay in its plan and are refused in each poll.
pub const HOLES: usize = 512;

/// The silence after a unit's answers grows by itself up to this when it misses requests, from…
pub const GAP_MAX: Duration = Duration::from_millis(100);
/// …this, doubling. A unit that needs more says so in its manual: `min_gap`.
pub const GAP_STEP: Duration = Duration::from_millis(2);

/// The ordered shutdown ends by this, whatever is stuck.
pub const SHUTDOWN: Duration = Duration::from_secs(5);
/// A turn of the engine that is later than this was a suspended process: the observer was blind.
pub const TURN_GAP: Duration = Duration::from_secs(2);
/// The cloud hears of progress at this interval.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(60);
/// Progress that the cloud takes at once is not written while state.db was written within this time. Over: it is, for a disk
/// that nothing is written to does not show that it fails.
pub const PROGRESS_UNWRITTEN: Duration = Duration::from_secs(300);

/// Clients of the control socket at once. More: their connection is closed.
pub const CONTROL_CLIENTS: usize = 16;
/// The longest request on the control socket, in bytes. Longer: answered as unreadable.
pub const CONTROL_LINE: u64 = 64 * 1024;

/// Addresses that the HTTP surface listens on. More: a problem.
pub const API_ADDRESSES: usize = 8;
/// Connections to the HTTP surface, of all addresses. More: closed at once, so that those that are there are served.
pub const API_CONNECTIONS: usize = 1_000;
/// Requests answered at once: heartbeats wait for the engine, telemetry for a commit. More: answered 503, try again.
pub const API_REQUESTS: usize = 1_000;
/// A request's head, in bytes. Larger: answered 431 and closed.
pub const API_HEAD_BYTES: usize = 16 * 1024;
/// A connection whose next request has not arrived by then is closed: idle ones, and those that send byte by byte.
pub const API_HEAD_WITHIN: Duration = Duration::from_secs(75);
/// A body must be here by then. Later: answered 408.
pub const API_BODY_WITHIN: Duration = Duration::from_secs(10);
/// What a device sends is durable by then, or answered 507: it keeps it and sends it again.
pub const API_KEPT_WITHIN: Duration = Duration::from_secs(10);
/// Requests a second and at once of one device. More: answered 429 with the time to wait.
pub const API_DEVICE_RATE: u32 = 20;
pub const API_DEVICE_BURST: u32 = 100;
/// The same of one person's or program's token.
pub const API_PERSON_RATE: u32 = 50;
pub const API_PERSON_BURST: u32 = 200;
/// Lines with figures of their own on the page of metrics. More: their sum, as `others`.
pub const METRICS_LINES: usize = 64;
/// Devices and tokens whose rate is remembered. Full: those that have rested are forgotten; are there none, 429.
pub const API_RATES: usize = 10_000;
/// Samples in one telemetry request. More: answered 422 as unreadable.
pub const API_SAMPLES: usize = 5_000;
/// Devices whose last heartbeat and last sequence numbers are remembered. Full: all are forgotten; the next heartbeats go
/// upstream whole, and a repeated number counts as new.
pub const API_DEVICES: usize = 20_000;
/// Sequence numbers remembered of one device, so that a repeated message is known. More: the oldest goes.
pub const API_REPEATS: usize = 32;
/// Followers of `/ws/devices`. More: answered 503.
pub const API_FOLLOWERS: usize = 64;
/// Moves of devices on their way to followers. A follower that is so far behind is cut off; it connects and gets the list.
pub const API_UPDATES: usize = 1_024;
/// A follower takes a message within this. Later: it is cut off.
pub const API_FOLLOWER_WITHIN: Duration = Duration::from_secs(10);
/// Rows in one answer. More: the newest.
pub const API_ROWS: u32 = 1_000;

/// Models in one SunSpec chain: real devices have up to twenty. More: the chain ends there.
pub const SUNSPEC_MODELS: usize = 48;
/// Repeated parts of one SunSpec model (inputs of an inverter). More: the first so many are read.
pub const SUNSPEC_PARTS: usize = 24;

/// A scan gives a unit that answers late at most so long. Later: it counts as not there; `--wait` gives it more.
pub const SCAN_PATIENCE_MAX: Duration = Duration::from_secs(1);
/// A host whose port is open and mute is asked again with so long for an answer: SunSpec gateways were seen to need a second.
/// Later: it counts as not there; `--wait` gives it more.
pub const SCAN_SECOND_LOOK: Duration = Duration::from_millis(1_500);
/// Addresses that a scan of a network takes without `--yes`. More: refused.
pub const SCAN_ADDRESSES: usize = 1_024;
/// Addresses that it takes at all. More: refused.
pub const SCAN_ADDRESSES_MAX: usize = 65_536;
/// Connections that it tries at once. More: the next one waits.
pub const SCAN_CONNECTS: usize = 16;
/// Time between two attempts to connect, so that a small switch or a firewall takes it for no attack.
pub const SCAN_CONNECT_EVERY: Duration = Duration::from_millis(10);

/// Values that are followed at once by `fieldgate trace`. More: refused as busy.
pub const TRACES: usize = 4;
/// Steps kept of one of them. More: the oldest attempts go.
pub const TRACE_STEPS: usize = 32;
/// Phases of commands on their way to whoever waits for one on the control socket. Full: a waiter that is so far behind
/// is told to look at `fieldgate status`.
pub const COMMAND_PHASES: usize = 256;
/// A local command's end is waited for so long after its deadline: a read-back may follow the write.
pub const COMMAND_GRACE: Duration = Duration::from_secs(12);

/// Messages that `fieldgate consume` writes in one commit, and their bytes: what an unacknowledged commit may cost in
/// memory. More that wait are written by the next one.
pub const CONSUME_GROUP: usize = 1_024;
pub const CONSUME_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Ranges of numbers and contents of messages that it holds in memory when it writes JSON lines. Full: a message that would
/// need one more range is rejected, which only strangers' numbers come to; the oldest content is not compared any more.
pub const CONSUME_RANGES: usize = 200_000;
pub const CONSUME_CONTENTS: usize = 65_536;
/// What it keeps of strangers' messages. Full: the oldest goes in a database, in JSON lines further ones are only counted.
pub const CONSUME_REJECTED: u64 = 10_000;

/// Events of one uplink that goes and comes, at once, and after how long there is one more: 152 in the worst day. More changes
/// are counted, and told as one event when there may be one again.
pub const UPLINK_EVENTS: u32 = 8;
pub const UPLINK_EVENT_EVERY: Duration = Duration::from_secs(600);

/// Rules of one gateway. More: a problem.
pub const RULES: usize = 500;
/// What one rule does when it fires. More: a problem.
pub const RULE_ACTIONS: usize = 16;
/// A condition's text. Longer: a problem.
pub const CONDITION_CHARS: usize = 2_000;
/// Parentheses and `not` inside each other. Deeper: a problem.
pub const CONDITION_DEPTH: usize = 16;
/// Comparisons of one condition; with those of `unless` they have a bit each. More: a problem.
pub const CONDITION_TESTS: usize = 32;
/// Firings of a rule within a minute. More: it is taken for a loop, paused, and an alarm says so.
pub const RULE_FIRINGS: usize = 10;
pub const RULE_FIRINGS_WITHIN: Duration = Duration::from_secs(60);
/// A command that a rule gives is good for so long. Later: it expires, and its event says so.
pub const RULE_COMMAND: Duration = Duration::from_secs(60);
/// The text of a rule's alarm, and what it publishes, in bytes each. Longer: a problem.
pub const RULE_TEXT: usize = 4_096;
/// Points of which something is computed. More: a problem.
pub const ANALYTICS: usize = 500;
/// Parts into which the time of a moving figure is divided: it moves by whole parts, and costs 40 bytes for each.
pub const ANALYTICS_PARTS: u64 = 60;
/// Values without which nothing is known about what is usual.
pub const ANALYTICS_USUAL: u64 = 10;
/// Files of a configuration in a backup, and their bytes together; the databases have limits of their own. More: the backup
/// is refused, because that is no configuration.
pub const BACKUP_FILES: usize = 10_000;
pub const BACKUP_FILE_BYTES: u64 = 64 * 1024 * 1024;
