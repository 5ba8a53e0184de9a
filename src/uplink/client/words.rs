//! What the broker's codes mean, with the remedy, for `status`.

use rumqttc::ConnectReturnCode as C4;
use rumqttc5::{ConnectReturnCode as C5, DisconnectReasonCode as D5};

/// Of a text that the broker sends, what a line of `status` takes.
const SAID: usize = 120;

pub fn short(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

pub const fn refused_v4(code: C4) -> &'static str {
    match code {
        C4::RefusedProtocolVersion => "it does not speak MQTT 3.1.1; set version = \"5\"",
        C4::BadClientId => "client id not allowed; check client_id",
        C4::ServiceUnavailable => "server unavailable",
        C4::BadUserNamePassword => "user name or password wrong",
        C4::NotAuthorized => "not authorised; check user name, password and client certificate",
        C4::Success => "",
    }
}

pub const fn refused_v5(code: C5) -> &'static str {
    match code {
        C5::Success => "",
        C5::RefusedProtocolVersion | C5::UnsupportedProtocolVersion => "it does not speak MQTT 5; set version = \"3.1.1\"",
        C5::BadClientId | C5::ClientIdentifierNotValid => "client id not allowed; check client_id",
        C5::ServiceUnavailable | C5::ServerUnavailable => "server unavailable",
        C5::ServerBusy => "server busy; it is tried again",
        C5::UnspecifiedError => "it gives no reason (0x80); its log may",
        C5::MalformedPacket => "it could not read our CONNECT (0x81); set version = \"3.1.1\"",
        C5::ProtocolError => "it found our CONNECT against the protocol (0x82); set version = \"3.1.1\"",
        C5::ImplementationSpecificError => "its implementation cannot take us (0x83); its log may say why",
        C5::BadUserNamePassword => "user name or password wrong",
        C5::NotAuthorized => "not authorised; check user name, password and client certificate",
        C5::Banned => "this client is banned there; its administrator can lift that",
        C5::BadAuthenticationMethod => {
            "it wants an authentication method that is not in this version; use a password or a client certificate"
        }
        C5::TopicNameInvalid => "it does not take the topic of our will; check topic_prefix",
        C5::PacketTooLarge => "our CONNECT is larger than it takes",
        C5::QuotaExceeded => "a quota is used up there (0x97)",
        C5::PayloadFormatInvalid => "it does not take the payload of our will",
        C5::RetainNotSupported => "it keeps no retained messages, which birth, will and the device list need; allow them there",
        C5::QoSNotSupported => "it does not take QoS 1 for our will; allow it there",
        C5::UseAnotherServer => "it sends us to another server for now; check url",
        C5::ServerMoved => "it has moved to another server; change url",
        C5::ConnectionRateExceeded => "too many connections in a short time; it is tried again",
    }
}

/// It ended the connection over something that we sent, as far as it says.
pub const fn is_content(code: D5) -> bool {
    matches!(
        code,
        D5::UnspecifiedError
            | D5::MalformedPacket
            | D5::ProtocolError
            | D5::ImplementationSpecificError
            | D5::NotAuthorized
            | D5::TopicNameInvalid
            | D5::PacketTooLarge
            | D5::QuotaExceeded
            | D5::PayloadFormatInvalid
    )
}

pub const fn goodbye_v5(code: D5) -> &'static str {
    match code {
        D5::NormalDisconnection | D5::DisconnectWithWillMessage => "without a reason",
        D5::UnspecifiedError => "no reason given (0x80)",
        D5::MalformedPacket => "it could not read a packet of ours (0x81)",
        D5::ProtocolError => "it found us against the protocol (0x82)",
        D5::ImplementationSpecificError => "its implementation cannot go on (0x83)",
        D5::NotAuthorized => "not authorised; check the broker's access rules",
        D5::ServerBusy => "server busy",
        D5::ServerShuttingDown => "it is shutting down",
        D5::KeepAliveTimeout => "it heard nothing from us for 1.5 keep-alives",
        D5::SessionTakenOver => "another client connected with our client id; is it used twice?",
        D5::TopicFilterInvalid => "it does not take the topic of our subscription; check topic_prefix",
        D5::TopicNameInvalid => "it does not take a topic of ours; check topic_prefix",
        D5::ReceiveMaximumExceeded => "more was in flight than it takes",
        D5::TopicAliasInvalid => "a topic alias that it does not know",
        D5::PacketTooLarge => "a message was larger than it takes",
        D5::MessageRateTooHigh => "too many messages in a short time",
        D5::QuotaExceeded => "a quota is used up there (0x97)",
        D5::AdministrativeAction => "its administrator ended it",
        D5::PayloadFormatInvalid => "a payload is not in the form that it wants (0x99)",
        D5::RetainNotSupported => "it keeps no retained messages; allow them there",
        D5::QoSNotSupported => "it does not take QoS 1; allow it there",
        D5::UseAnotherServer => "it sends us to another server for now; check url",
        D5::ServerMoved => "it has moved to another server; change url",
        D5::SharedSubscriptionNotSupported | D5::SubscriptionIdentifiersNotSupported | D5::WildcardSubscriptionsNotSupported => {
            "a kind of subscription that it does not know"
        }
        D5::ConnectionRateExceeded => "too many connections in a short time",
        D5::MaximumConnectTime => "the longest time for one connection is over",
    }
}
