//! Promise 1 against brokers that lie: acknowledgements that come three times or never, a payload that is refused or
//! closes the connection, a link that is dead and does not say so. Nothing is lost, nothing goes on for ever, and only the
//! guilty sample is put aside.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    gateway::{Gateway, uplink},
    liar::{Answer, Cable, Liar},
    mqtt::{Client, Login, Packet},
    process::free_port,
    publishers::listening,
    wait::{now, pause, punctual, scaled, secs},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, time::Duration};

/// The sample that a broker dislikes is this text of one message; its neighbours in the message are good.
const POISON: &str = "poison";

/// A publisher of the local door. Everything that [`Publisher::send`] sent is acknowledged when it returns.
struct Publisher {
    client: Client,
    sent: u64,
}

impl Publisher {
    fn new(port: u16) -> Publisher {
        Publisher { client: Client::connect(port, &Login { id: "plug", ..Login::default() }).expect("the door accepts"), sent: 0 }
    }

    fn send(&mut self, count: u64, text: &str) {
        let mut open = 0;
        for _ in 0..count {
            self.sent += 1;
            let body = format!("{{\"n\":{},\"text\":\"{text}\"}}", self.sent);
            self.client.publish("tele/plug-1/SENSOR", body.as_bytes()).expect("the door reads");
            open += 1;
        }
        while open > 0 {
            if let Some(Packet::PubAck(_)) = self.client.next(secs(10)).expect("the connection stands") {
                open -= 1;
            }
        }
    }
}

/// How often each number and each text arrived, behind the key.
fn arrived(seen: &Seen) -> (BTreeMap<u64, usize>, BTreeMap<String, usize>) {
    let (mut numbers, mut texts) = (BTreeMap::new(), BTreeMap::new());
    for row in seen.rows.iter().filter(|r| r.device == "plug-1") {
        if let Some(n) = row.values.get("n").and_then(Json::as_u64) {
            *numbers.entry(n).or_default() += 1;
        }
        if let Some(text) = row.values.get("text").and_then(Json::as_str) {
            *texts.entry(text.to_owned()).or_default() += 1;
        }
    }
    (numbers, texts)
}

/// Every number once, every text that was sent, each number accounted for.
#[track_caller]
fn assert_whole(seen: &Seen, sent: u64, texts: usize) {
    seen.assert_sound();
    let (numbers, said) = arrived(seen);
    assert_eq!(numbers.keys().copied().collect::<Vec<_>>(), (1..=sent).collect::<Vec<_>>());
    assert!(numbers.values().all(|times| *times == 1), "behind the key nothing comes twice");
    assert_eq!(said.values().sum::<usize>(), texts, "{said:?}");
    assert_eq!(seen.missing(), []);
}

fn all_numbers(seen: &Seen, to: u64) -> Option<()> {
    let (numbers, _) = arrived(seen);
    (1..=to).all(|n| numbers.contains_key(&n)).then_some(())
}

fn config(liar: u16, local: u16, version: &str) -> String {
    let keys = format!("version = \"{version}\"\nkeep_alive = \"5s\"\nreconnect_max");
    uplink(liar).replace("reconnect_max", &keys) + &listening(local)
}

fn is_bad(topic: &str, body: &[u8]) -> bool {
    topic.ends_with("/telemetry") && String::from_utf8_lossy(body).contains(POISON)
}

fn letters(gateway: &Gateway) -> Vec<Json> {
    let output = gateway.command(&["dead-letters", "list", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Json = serde_json::from_slice(&output.stdout).expect("one document");
    document["letters"].as_array().expect("a list").clone()
}

/// One letter, with the one sample.
#[track_caller]
fn assert_one_letter(gateway: &Gateway, reason: &str) -> Json {
    let letters = letters(gateway);
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let letter = letters[0].clone();
    assert_eq!(letter["source"], "uplink cloud");
    assert!(letter["reason"].as_str().is_some_and(|r| r.contains(reason)), "{letter}");
    let body: Json = serde_json::from_str(letter["body"].as_str().expect("text")).expect("a message");
    let frames = body["devices"]["plug-1"].as_array().expect("its frames");
    assert_eq!((frames.len(), &frames[0]["v"]), (1, &serde_json::json!({"text": [POISON]})), "{body}");
    letter
}

#[test]
fn three_pubacks_for_each_message_prove_each_message_once() {
    for version in ["3.1.1", "5"] {
        let local = free_port();
        let liar = Liar::start(|_, _| Answer::Ack(3));
        let gateway = Gateway::started("threefold", &config(liar.port, local, version));
        let mut publisher = Publisher::new(local);
        for _ in 0..scaled(10, 200) {
            publisher.send(20, "good");
        }
        let sent = publisher.sent;
        liar.wait("all of them", secs(20), |s| all_numbers(s, sent));
        assert_whole(&liar.seen(), sent, usize::try_from(sent).expect("few"));
        assert_eq!(liar.told().connects.len(), 1, "{version}: a repeated acknowledgement costs no connection");
        assert_eq!((liar.seen().resends, letters(&gateway).len()), (0, 0));
        assert!(liar.told().faults.is_empty(), "{:?}", liar.told().faults);
    }
}

#[test]
fn a_broker_that_acknowledges_nothing_is_left_after_a_while_with_a_growing_pause_and_gets_everything_later() {
    let local = free_port();
    let liar = Liar::start(|_, _| Answer::Silence);
    let gateway = Gateway::started("mute", &config(liar.port, local, "3.1.1").replace("reconnect_max = \"1s\"", "reconnect_max = \"30s\""));
    let mut publisher = Publisher::new(local);
    let attempts = scaled(4, 7);
    while liar.told().connects.len() <= attempts {
        publisher.send(5, "good");
        pause(Duration::from_millis(250));
    }
    let (lasted, pauses): (Vec<f64>, Vec<f64>) = {
        let told = liar.told();
        let lasted = told.connects.iter().zip(&told.ends).map(|(from, to)| (*to - *from).as_secs_f64());
        let pauses = told.ends.iter().zip(&told.connects[1..]).map(|(end, next)| (*next - *end).as_secs_f64());
        (lasted.collect(), pauses.collect())
    };
    eprintln!("links lasted {lasted:.2?} s, pauses between them {pauses:.2?} s, {} messages sent", liar.told().publishes);
    assert!(lasted.iter().all(|s| (7.0..9.5).contains(s)), "1.5 keep-alives: {lasted:?}");
    assert!(pauses[attempts - 1] > 2.0 * pauses[0], "growing: {pauses:?}");
    // A window for each link, not a stream of resends.
    let most = 40 * (attempts as u64 + 1);
    assert!(liar.told().publishes < most, "{} messages over {} links", liar.told().publishes, attempts + 1);
    assert!(letters(&gateway).is_empty(), "a broker that takes nothing is not the data's fault");
    let says = || String::from_utf8_lossy(&gateway.command(&["status"]).stdout).contains("the broker acknowledges nothing");
    crate::wait::until("status says so", secs(20), || says().then_some(()));
    liar.change(|_, _| Answer::Ack(1));
    let sent = publisher.sent;
    liar.wait("everything, once it acknowledges", secs(60), |s| all_numbers(s, sent));
    assert_whole(&liar.seen(), sent, usize::try_from(sent).expect("few"));
}

#[test]
fn a_payload_that_is_refused_is_found_on_one_connection_and_can_be_replayed() {
    let local = free_port();
    let liar = Liar::start(|topic, body| if is_bad(topic, body) { Answer::Refuse(0x99) } else { Answer::Ack(1) });
    let mut gateway = Gateway::started("refused", &config(liar.port, local, "5"));
    let mut publisher = Publisher::new(local);
    publisher.send(30, "good");
    publisher.send(1, POISON);
    publisher.send(30, "good");
    let sent = publisher.sent;
    liar.wait("all numbers", secs(30), |s| all_numbers(s, sent));
    crate::wait::until("the letter", secs(30), || (!letters(&gateway).is_empty()).then_some(()));
    crate::wait::until("every number accounted for", secs(20), || liar.seen().missing().is_empty().then_some(()));
    let letter = assert_one_letter(&gateway, "0x99");
    assert_whole(&liar.seen(), sent, usize::try_from(sent - 1).expect("few"));
    let (connects, not_taken) = {
        let told = liar.told();
        (told.connects.len(), told.not_taken)
    };
    eprintln!("{not_taken} refusals, {connects} connection, {} messages", liar.told().publishes);
    assert_eq!(connects, 1, "a refusal costs no connection");
    assert!(not_taken < 20, "{not_taken} refusals");

    // While the broker still dislikes it, it comes back to the letters; once it does not, it arrives.
    let id = letter["id"].to_string();
    let shown = gateway.command(&["dead-letters", "show", &id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(POISON));
    // Nobody is there to agree.
    assert_eq!(gateway.command(&["dead-letters", "purge", "--all"]).status.code(), Some(2));
    assert_eq!(letters(&gateway).len(), 1);
    let replay = |gateway: &Gateway, id: &str| gateway.command(&["dead-letters", "replay", id]);
    assert_eq!(replay(&gateway, &id).status.code(), Some(0));
    crate::wait::until("it is refused again", secs(60), || {
        // Only another message that is taken in between tells a bad sample from a bad broker.
        publisher.send(1, "good");
        letters(&gateway).first().filter(|l| l["at"] != letter["at"]).map(|_| ())
    });
    let id = assert_one_letter(&gateway, "0x99")["id"].to_string();
    liar.change(|_, _| Answer::Ack(1));
    // Without the daemon it goes into the spool as well.
    gateway.stop();
    let output = replay(&gateway, &id);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(letters(&gateway).is_empty());
    assert_eq!(gateway.command(&["dead-letters", "purge", "--all"]).status.code(), Some(0), "there is nothing to ask about");
    gateway.start();
    let sent = publisher.sent;
    liar.wait("the sample", secs(30), |s| (arrived(s).1.get(POISON) == Some(&1)).then_some(()));
    crate::wait::until("every number accounted for", secs(20), || liar.seen().missing().is_empty().then_some(()));
    assert_whole(&liar.seen(), sent, usize::try_from(sent).expect("few"));
}

#[test]
fn a_payload_that_closes_the_connection_is_found_and_all_others_arrive() {
    let local = free_port();
    let liar = Liar::start(|topic, body| if is_bad(topic, body) { Answer::Close } else { Answer::Ack(1) });
    let gateway = Gateway::started("closes", &config(liar.port, local, "3.1.1"));
    let mut publisher = Publisher::new(local);
    publisher.send(30, "good");
    publisher.send(1, POISON);
    publisher.send(30, "good");
    let begun = now();
    crate::wait::until("the letter", secs(120), || {
        publisher.send(1, "good");
        pause(Duration::from_millis(100));
        (!letters(&gateway).is_empty()).then_some(())
    });
    let (took, connects) = ((now() - begun).as_secs_f64(), liar.told().connects.len());
    let sent = publisher.sent;
    liar.wait("all numbers", secs(30), |s| all_numbers(s, sent));
    crate::wait::until("every number accounted for", secs(20), || liar.seen().missing().is_empty().then_some(()));
    eprintln!("found after {took:.1} s and {connects} connections, {} messages not taken", liar.told().not_taken);
    assert_one_letter(&gateway, "closes the connection");
    assert_whole(&liar.seen(), sent, usize::try_from(sent - 1).expect("few"));
    assert!(connects < 40, "{connects} connections");
    // It is over: no further connection.
    let connects = liar.told().connects.len();
    publisher.send(20, "good");
    let sent = publisher.sent;
    liar.wait("what comes after", secs(10), |s| all_numbers(s, sent));
    assert_eq!(liar.told().connects.len(), connects);
}

#[test]
fn a_payload_that_is_never_acknowledged_is_found_and_all_others_arrive() {
    let local = free_port();
    let liar = Liar::start(|topic, body| if is_bad(topic, body) { Answer::Silence } else { Answer::Ack(1) });
    let gateway = Gateway::started("silent", &config(liar.port, local, "3.1.1"));
    let mut publisher = Publisher::new(local);
    publisher.send(4, "good");
    publisher.send(1, POISON);
    let begun = now();
    crate::wait::until("the letter", secs(180), || {
        publisher.send(1, "good");
        pause(Duration::from_millis(200));
        (!letters(&gateway).is_empty()).then_some(())
    });
    let sent = publisher.sent;
    liar.wait("all numbers", secs(30), |s| all_numbers(s, sent));
    crate::wait::until("every number accounted for", secs(20), || liar.seen().missing().is_empty().then_some(()));
    let connects = liar.told().connects.len();
    eprintln!("found after {:.1} s and {connects} connections", (now() - begun).as_secs_f64());
    assert_one_letter(&gateway, "never acknowledges");
    assert_whole(&liar.seen(), sent, usize::try_from(sent - 1).expect("few"));
    assert!(connects < 20, "{connects} connections");
}

#[test]
fn a_dead_link_is_noticed_within_one_and_a_half_keep_alives_and_nothing_sent_into_it_counts() {
    let local = free_port();
    let broker = Mosquitto::start();
    let cable = Cable::to(broker.port);
    let cloud = Cloud::watch(broker.port, "dead-link");
    let mut gateway = Gateway::started("dead-link", &config(cable.port, local, "3.1.1"));
    cloud.wait_online();
    let mut publisher = Publisher::new(local);
    publisher.send(10, "good");
    cloud.wait("the first ten", secs(10), |s| all_numbers(s, 10));

    let link = cable.connects() - 1;
    cable.cut_silently();
    let cut = now();
    publisher.send(30, "good");
    let status: Json = serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).expect("a document");
    assert!(status["spool"]["waiting"].as_u64() >= Some(60), "sent into a dead link is not delivered: {}", status["spool"]);
    let left = crate::wait::until("the dead link is noticed", secs(60), || cable.left(link));
    let noticed = left - cut;
    eprintln!("noticed after {:.2} s with a keep-alive of 5 s", noticed.as_secs_f64());
    punctual("a dead link noticed", noticed, Duration::from_millis(7_500 + 700));
    cloud.wait("all forty", secs(10), |s| all_numbers(s, 40));

    // The same without traffic, where only pings can tell, and with a kill before it is noticed.
    let link = cable.connects() - 1;
    cable.cut_silently();
    let cut = now();
    let left = crate::wait::until("the idle dead link is noticed", secs(60), || cable.left(link));
    eprintln!("idle: noticed after {:.2} s", (left - cut).as_secs_f64());
    punctual("an idle dead link noticed", left - cut, Duration::from_millis(7_500 + 700));
    crate::wait::until("connected again", secs(10), || (cable.connects() > link + 1).then_some(()));
    cloud.wait_online();
    cable.cut_silently();
    publisher.send(30, "good");
    gateway.kill();
    gateway.start();
    cloud.wait("all seventy", secs(20), |s| all_numbers(s, 70));
    crate::wait::until("every number accounted for", secs(20), || cloud.seen().missing().is_empty().then_some(()));
    assert_whole(&cloud.seen(), 70, 70);
    assert!(letters(&gateway).is_empty());
}
