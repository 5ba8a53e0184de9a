//! Which broker, as whom, and what of it.

use crate::{
    cli::site::Trouble,
    config::{Mqtt, Secret, uplink::Tls},
    system::clock::{Clock, built},
    uplink::{broker::Hello, client::Client},
};
use std::{path::PathBuf, time::Duration};

/// Taken from the environment, because an argument is seen by everybody on the machine.
const PASSWORD: &str = "FIELDGATE_PASSWORD";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
#[group(id = "consume-broker")]
pub struct Args {
    /// Host and port; 1883 without one, 8883 with TLS
    #[arg(long, value_name = "HOST[:PORT]", required = true)]
    broker: Option<String>,
    /// TLS with the system's roots
    #[arg(long)]
    tls: bool,
    /// Trust these roots instead (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate (PEM), with --key
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "cert", help = "Its key (PEM)")]
    key: Option<PathBuf>,
    /// User name; the password comes from --password-file or the environment, FIELDGATE_PASSWORD
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Name of the session that the broker keeps while this is away; the same at each start
    #[arg(long, value_name = "ID", default_value = "fieldgate-consume")]
    client_id: String,
    /// What to read; prefixes of your own end in /# as well
    #[arg(long, value_name = "FILTER", default_value = "fieldgate/+/#")]
    topic: String,
    /// Share the messages with the other consumers of this group; needs a --client-id of its own for each
    #[arg(long, value_name = "GROUP", requires = "client_id")]
    share: Option<String>,
}

impl Args {
    /// The client, after what can be checked without the broker.
    pub fn client(&self) -> Result<Client, Trouble> {
        let usage = |message: String, remedy: &str| Trouble::new("usage", 2, message, remedy);
        for file in [&self.ca, &self.cert, &self.key].into_iter().flatten() {
            std::fs::File::open(file).map_err(|e| usage(format!("cannot read {}: {e}", file.display()), "name a PEM file"))?;
        }
        let bad_share = self.share.as_deref().is_some_and(|s| s.is_empty() || s.contains(['/', '+', '#']));
        if bad_share || self.topic.is_empty() || self.topic.len() > 1_000 {
            return Err(usage("no such subscription".into(), "a group has no /, + or #, and a topic filter is not empty"));
        }
        let (host, port) = self.address().ok_or_else(|| usage(format!("{} is no address", self.name()), "--broker HOST or HOST:PORT"))?;
        let tls = self.has_tls().then(|| Tls { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() });
        Ok(Client::to(host, port, tls, Mqtt::V311))
    }

    pub fn hello(&self) -> Result<Hello, Trouble> {
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text =
                    text.map_err(|e| Trouble::new("usage", 2, format!("cannot read {}: {e}", file.display()), "a file of mode 0600"))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => std::env::var(PASSWORD).ok(),
        };
        Ok(Hello {
            client_id: self.client_id.clone(),
            username: self.user.clone(),
            password: password.map(Secret),
            keep_alive: Duration::from_secs(30),
            will: (String::new(), Vec::new()),
            judged_at: Clock::Real.reading().wall(Clock::Real.now()).max(built()),
        })
    }

    pub fn filter(&self) -> String {
        match &self.share {
            Some(group) => format!("$share/{group}/{}", self.topic),
            None => self.topic.clone(),
        }
    }

    /// For people.
    pub fn name(&self) -> &str {
        self.broker.as_deref().unwrap_or_default()
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    fn has_tls(&self) -> bool {
        self.tls || self.ca.is_some() || self.cert.is_some() || self.name().starts_with("mqtts://")
    }

    /// `host`, `host:port`, `[::1]:1883`, with or without `mqtt://`.
    fn address(&self) -> Option<(String, u16)> {
        let at = self.name();
        let at = at.strip_prefix("mqtts://").or_else(|| at.strip_prefix("mqtt://")).unwrap_or(at);
        let usual = if self.has_tls() { 8883 } else { 1883 };
        let (host, port) = match at.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None if at.matches(':').count() > 1 => (at, None),
            None => at.rsplit_once(':').map_or((at, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |p| p.parse().ok())?;
        (!host.is_empty() && port != 0 && !host.contains('/')).then(|| (host.to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn addresses_are_written_as_people_write_them() {
        for (text, want) in [
            ("cloud", Some(("cloud", 1883))),
            ("cloud:99", Some(("cloud", 99))),
            ("mqtt://10.0.0.5:1884", Some(("10.0.0.5", 1884))),
            ("mqtts://cloud", Some(("cloud", 8883))),
            ("[::1]:77", Some(("::1", 77))),
            ("::1", Some(("::1", 1883))),
            ("cloud:", None),
            ("cloud:0", None),
            ("", None),
            ("a/b", None),
        ] {
            let parsed = Alone::try_parse_from(["x", "--broker", text]).map(|a| a.args.address());
            assert_eq!(parsed.ok().flatten().as_ref().map(|(h, p)| (h.as_str(), *p)), want, "{text}");
        }
    }

    #[test]
    fn a_shared_subscription_needs_a_name_for_each_consumer() {
        let parse = |more: &[&str]| Alone::try_parse_from(["x", "--broker", "b"].iter().chain(more)).map(|a| a.args.filter());
        assert_eq!(parse(&["--share", "g", "--client-id", "one"]).unwrap(), "$share/g/fieldgate/+/#");
        assert_eq!(parse(&[]).unwrap(), "fieldgate/+/#");
    }
}
