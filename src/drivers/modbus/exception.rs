//! What an exception means for whoever asked: to try again, to change the plan, or to look at the device.

/// The classes of exception codes. 0x0A and 0x0B come from a gateway on the way and say nothing about the unit but that it
/// did not answer; of a write, 5 and 0x0B leave open whether it was carried out, 6 and 0x0A say that it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 5 acknowledged, 6 busy, 0x0A no path, 0x0B no answer behind the gateway: the next poll asks again.
    Retry,
    /// 1 no such function, 2 no such register, 3 not so much: the same request will be refused again.
    Plan,
    /// 4 and whatever else: the device says that it is not well.
    Device,
}

pub const fn class(code: u8) -> Class {
    match code {
        5 | 6 | 0x0a | 0x0b => Class::Retry,
        1..=3 => Class::Plan,
        _ => Class::Device,
    }
}

/// What a gateway says where a unit should have answered.
pub const NO_PATH: u8 = 0x0a;
pub const NO_TARGET: u8 = 0x0b;

/// Words for people.
pub const fn word(code: u8) -> &'static str {
    match code {
        1 => "no such function",
        2 => "no such register",
        3 => "not so many registers, or not this value",
        4 => "device failure",
        5 => "accepted, takes time",
        6 => "busy",
        8 => "memory parity error",
        NO_PATH => "the gateway has no path to the unit",
        NO_TARGET => "the unit behind the gateway does not answer",
        _ => "a code of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_class() {
        for (code, want) in [(1, Class::Plan), (2, Class::Plan), (3, Class::Plan), (4, Class::Device), (5, Class::Retry), (6, Class::Retry)]
        {
            assert_eq!(class(code), want, "{code}");
        }
        assert_eq!(
            (class(NO_PATH), class(NO_TARGET), class(8), class(0), class(255)),
            (Class::Retry, Class::Retry, Class::Device, Class::Device, Class::Device)
        );
    }
}
