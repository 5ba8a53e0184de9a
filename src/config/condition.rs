//! `when = "boiler.flow_temp < 5 and not pump is offline"`: from text to a tree. Pure; what it names is checked elsewhere.
//!
//! ```text
//! any  = all { "or" all }
//! all  = one { "and" one }
//! one  = "not" one | "(" any ")" | test
//! test = device.point                     the same as device.point == true
//!      | device.point SIGN value          < <= > >= == !=
//!      | device "is" ["not"] STATE        online, suspect, offline, unknown
//! ```
//! A value is a number, true or false, a text in quotes, or another device.point. Devices and points may begin with digits,
//! so what reads as a number is one.

use crate::{
    limits,
    model::{Compare, Condition, DeviceId, Expr, PointId, PointRef, State, Test, Value},
};

/// Why a text is no condition, and at which character (from 0).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at column {}", .at + 1)]
pub struct Fault {
    pub at: usize,
    /// Characters that are meant.
    pub length: usize,
    pub message: String,
    /// What to write instead.
    pub want: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Sign(Compare),
    /// A name, a number or a keyword.
    Word(String),
    Text(String),
}

#[derive(Debug, Clone)]
struct Placed {
    token: Token,
    at: usize,
    length: usize,
}

pub fn parse(text: &str) -> Result<Condition, Fault> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.chars().count(), tests: Vec::new() };
    let expr = parser.any(0)?;
    if let Some(rest) = tokens.get(parser.next) {
        let message = format!("{} was not expected here", shown(&rest.token));
        return Err(fault(rest.at, rest.length, message, "join two conditions with `and` or `or`"));
    }
    Ok(Condition { text: text.trim().to_owned(), tests: parser.tests, expr })
}

fn fault(at: usize, length: usize, message: impl Into<String>, want: impl Into<String>) -> Fault {
    Fault { at, length: length.max(1), message: message.into(), want: want.into() }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Open => "`(`".into(),
        Token::Close => "`)`".into(),
        Token::Sign(sign) => format!("`{}`", sign.sign()),
        Token::Word(word) => format!("`{word}`"),
        Token::Text(text) => format!("'{text}'"),
    }
}

fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > limits::CONDITION_CHARS {
        let message = format!("{} characters are too many", chars.len());
        return Err(fault(limits::CONDITION_CHARS, 1, message, format!("at most {}", limits::CONDITION_CHARS)));
    }
    let (mut out, mut n) = (Vec::new(), 0);
    while n < chars.len() {
        let begin = n;
        let token = match chars[n] {
            c if c.is_whitespace() => {
                n += 1;
                continue;
            }
            '(' => Token::Open,
            ')' => Token::Close,
            quote @ ('\'' | '"') => {
                let len = chars[n + 1..].iter().position(|c| *c == quote);
                let len = len.ok_or_else(|| fault(begin, 1, "this quote is not closed", format!("{quote}text{quote}")))?;
                n += len + 1;
                Token::Text(chars[begin + 1..n].iter().collect())
            }
            c if is_word(c) => {
                while chars.get(n + 1).is_some_and(|c| is_word(*c)) {
                    n += 1;
                }
                Token::Word(chars[begin..=n].iter().collect())
            }
            _ => {
                let two: String = chars[n..].iter().take(2).collect();
                let sign = Compare::ALL.into_iter().find(|s| two.starts_with(s.sign()));
                let sign = sign.ok_or_else(|| foreign(begin, &two))?;
                n += sign.sign().len() - 1;
                Token::Sign(sign)
            }
        };
        n += 1;
        out.push(Placed { token, at: begin, length: n - begin });
    }
    Ok(out)
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

/// What other languages write.
fn foreign(at: usize, two: &str) -> Fault {
    let first = two.chars().next().unwrap_or(' ');
    let (length, want) = match (first, two) {
        ('=', _) => (1, "==".to_owned()),
        (_, "&&") => (2, "and".to_owned()),
        (_, "||") => (2, "or".to_owned()),
        ('!', _) => (1, "not".to_owned()),
        _ => (1, "comparisons such as boiler.flow_temp < 5, joined by and, or, not".to_owned()),
    };
    fault(at, length, format!("`{}` means nothing here", two.chars().take(length).collect::<String>()), want)
}

struct Parser<'a> {
    tokens: &'a [Placed],
    next: usize,
    end: usize,
    tests: Vec<Test>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|t| &t.token)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word)
    }

    fn takes(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.next += usize::from(is);
        is
    }

    /// At the token that comes next, or behind the end.
    fn here(&self, message: &str, want: &str) -> Fault {
        let (at, length) = self.tokens.get(self.next).map_or((self.end, 1), |t| (t.at, t.length));
        fault(at, length, message, want)
    }

    fn any(&mut self, depth: usize) -> Result<Expr, Fault> {
        let mut left = self.all(depth)?;
        while self.takes("or") {
            left = Expr::Or(Box::new(left), Box::new(self.all(depth)?));
        }
        Ok(left)
    }

    fn all(&mut self, depth: usize) -> Result<Expr, Fault> {
        let mut left = self.one(depth)?;
        while self.takes("and") {
            left = Expr::And(Box::new(left), Box::new(self.one(depth)?));
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Expr, Fault> {
        if depth >= limits::CONDITION_DEPTH {
            return Err(self.here("this is nested too deeply", &format!("at most {} levels", limits::CONDITION_DEPTH)));
        }
        if self.takes("not") {
            return Ok(Expr::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.peek() == Some(&Token::Open) {
            self.next += 1;
            let inner = self.any(depth + 1)?;
            if self.peek() != Some(&Token::Close) {
                return Err(self.here("a parenthesis is not closed", ")"));
            }
            self.next += 1;
            return Ok(inner);
        }
        let test = self.test()?;
        if self.tests.len() >= limits::CONDITION_TESTS {
            let want = format!("at most {} comparisons in one rule", limits::CONDITION_TESTS);
            return Err(self.here("these are too many comparisons", &want));
        }
        self.tests.push(test);
        Ok(Expr::Test(self.tests.len() - 1))
    }

    fn test(&mut self) -> Result<Test, Fault> {
        const WANT: &str = "device.point < 5, or device is offline";
        let Some(Placed { token, at, length }) = self.tokens.get(self.next) else {
            return Err(self.here("something is missing", WANT));
        };
        let (at, length) = (*at, *length);
        let Token::Word(word) = token else {
            return Err(fault(at, length, format!("{} stands where a device or point was expected", shown(token)), WANT));
        };
        let word = word.clone();
        if matches!(word.as_str(), "and" | "or" | "is" | "true" | "false") {
            return Err(fault(at, length, format!("`{word}` stands where a device or point was expected"), WANT));
        }
        self.next += 1;
        if self.takes("is") {
            return self.state(&word, at, length);
        }
        if number(&word).is_some() {
            return Err(fault(at, length, format!("the number {word} stands on the left"), "device.point first, the number behind it"));
        }
        let left = point(&word, at, length)?;
        let Some(Token::Sign(sign)) = self.peek() else {
            return Ok(Test::Value(left, Compare::Equal, Value::Bool(true)));
        };
        let sign = *sign;
        self.next += 1;
        self.right(left, sign)
    }

    fn state(&mut self, word: &str, at: usize, length: usize) -> Result<Test, Fault> {
        const WANT: &str = "online, suspect, offline or unknown";
        let device = DeviceId::parse(word).map_err(|_| fault(at, length, format!("`{word}` is no device"), "boiler is offline"))?;
        if self.is_word("not") {
            return Err(self.here("`is not` is no sign here", &format!("not {device} is online")));
        }
        let Some(Token::Word(state)) = self.peek() else { return Err(self.here("a state is missing behind `is`", WANT)) };
        let state = State::parse(state).ok_or_else(|| self.here("this is no state of a device", WANT))?;
        self.next += 1;
        Ok(Test::State(device, state))
    }

    fn right(&mut self, left: PointRef, sign: Compare) -> Result<Test, Fault> {
        const WANT: &str = "a number, true, false, a text in quotes, or another device.point";
        let Some(Placed { token, at, length }) = self.tokens.get(self.next) else {
            return Err(self.here(&format!("nothing stands behind `{}`", sign.sign()), WANT));
        };
        let value = match token {
            Token::Text(text) => Value::Text(text.as_str().into()),
            Token::Word(word) if word == "true" || word == "false" => Value::Bool(word == "true"),
            Token::Word(word) => match number(word) {
                Some(number) => number,
                None => {
                    let right = point(word, *at, *length)?;
                    self.next += 1;
                    return Ok(Test::Points(left, sign, right));
                }
            },
            other => return Err(fault(*at, *length, format!("{} stands where a value was expected", shown(other)), WANT)),
        };
        if sign.is_order() && !matches!(value, Value::Int(_) | Value::Float(_)) {
            return Err(fault(*at, *length, format!("`{}` needs a number", sign.sign()), "== or != for texts and for true and false"));
        }
        self.next += 1;
        Ok(Test::Value(left, sign, value))
    }
}

/// A finite number as TOML and JSON write it.
fn number(word: &str) -> Option<Value> {
    let digits = word.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let whole = word.parse::<i64>().ok().map(Value::Int);
    whole.or_else(|| word.parse::<f64>().ok().filter(|v| v.is_finite()).map(Value::Float))
}

/// `device.point`, as conditions and analytics name it. A point's name may have dots of its own.
pub fn reference(word: &str) -> Option<PointRef> {
    let (device, point) = word.split_once('.')?;
    Some(PointRef { device: DeviceId::parse(device).ok()?, point: PointId::parse(point).ok()? })
}

fn point(word: &str, at: usize, length: usize) -> Result<PointRef, Fault> {
    reference(word).ok_or_else(|| {
        let want = if word.contains('.') { "device.point".to_owned() } else { format!("{word}.point, or '{word}' if it is a text") };
        fault(at, length, format!("`{word}` is no point of a device"), want)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree in full, every test in parentheses.
    fn tree(c: &Condition) -> String {
        fn one(e: &Expr, c: &Condition) -> String {
            match e {
                Expr::Test(n) => format!("[{}]", c.tests[*n]),
                Expr::Not(a) => format!("!{}", one(a, c)),
                Expr::And(a, b) => format!("({} & {})", one(a, c), one(b, c)),
                Expr::Or(a, b) => format!("({} | {})", one(a, c), one(b, c)),
            }
        }
        one(&c.expr, c)
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(parse(text).map(|c| tree(&c)), Ok(want.to_owned()), "{text}");
    }

    #[track_caller]
    fn refuse(text: &str, at: usize, says: &str, want: &str) {
        let fault = parse(text).expect_err(text);
        assert_eq!((fault.at, fault.message.as_str(), fault.want.as_str()), (at, says, want), "{text}");
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        check("boiler.flow_temp < 5", "[boiler.flow_temp < 5]");
        check(" a.b<=-1.5 ", "[a.b <= -1.5]");
        check("a.b.c >= 1e3", "[a.b.c >= 1000]");
        check("relays.k1", "[relays.k1 == true]");
        check("not relays.k1", "![relays.k1 == true]");
        check("a.mode == 'auto' or a.mode != \"off\"", "([a.mode == 'auto'] | [a.mode != 'off'])");
        check("a.x == false", "[a.x == false]");
        check("a.x > b.y", "[a.x > b.y]");
        check("boiler is offline", "[boiler is offline]");
        check("not m-1 is online and a.b != 3", "(![m-1 is online] & [a.b != 3])");
        check("a.a or b.b and c.c", "([a.a == true] | ([b.b == true] & [c.c == true]))");
        check("(a.a or b.b) and c.c", "(([a.a == true] | [b.b == true]) & [c.c == true])");
        check("a.a and b.b and c.c", "(([a.a == true] & [b.b == true]) & [c.c == true])");
        check("7m.p > 18446744073709551615", "[7m.p > 18446744073709552000]");
    }

    #[test]
    fn what_is_no_condition_is_refused_at_its_column() {
        refuse("", 0, "something is missing", "device.point < 5, or device is offline");
        refuse("boiler.flow < ", 14, "nothing stands behind `<`", "a number, true, false, a text in quotes, or another device.point");
        refuse("boiler.flow = 5", 12, "`=` means nothing here", "==");
        refuse("a.b < 5 && c.d", 8, "`&&` means nothing here", "and");
        refuse("a.b < 5 c.d", 8, "`c.d` was not expected here", "join two conditions with `and` or `or`");
        refuse("(a.b < 5", 8, "a parenthesis is not closed", ")");
        refuse("5 < a.b", 0, "the number 5 stands on the left", "device.point first, the number behind it");
        refuse("a.b == auto", 7, "`auto` is no point of a device", "auto.point, or 'auto' if it is a text");
        refuse("a.b < 'x'", 6, "`<` needs a number", "== or != for texts and for true and false");
        refuse("a.b == 'x", 7, "this quote is not closed", "'text'");
        refuse("boiler is warm", 10, "this is no state of a device", "online, suspect, offline or unknown");
        refuse("boiler is not online", 10, "`is not` is no sign here", "not boiler is online");
        refuse("Ä.b < 5", 0, "`Ä` means nothing here", "comparisons such as boiler.flow_temp < 5, joined by and, or, not");
        refuse("and", 0, "`and` stands where a device or point was expected", "device.point < 5, or device is offline");
        let deep = format!("{}a.b", "not ".repeat(limits::CONDITION_DEPTH));
        refuse(&deep, deep.len() - 3, "this is nested too deeply", "at most 16 levels");
        let many = vec!["a.b"; limits::CONDITION_TESTS + 1].join(" or ");
        assert_eq!(parse(&many).unwrap_err().message, "these are too many comparisons");
        assert_eq!(parse(&"x".repeat(limits::CONDITION_CHARS + 1)).unwrap_err().at, limits::CONDITION_CHARS);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]
        /// Any text ends, within its bounds and without a panic; the fault lies in the text.
        #[test]
        fn any_text_is_a_condition_or_says_where_it_is_none(text in "[ ()a-c.<>=!'\"0-9é-]{0,60}|(a\\.b|and|or|not|is|online|<|5|\\(|\\)| ){0,40}") {
            match parse(&text) {
                Ok(condition) => prop_assert!(!condition.tests.is_empty()),
                Err(fault) => prop_assert!(fault.at <= text.chars().count() && !fault.want.is_empty(), "{fault:?}"),
            }
        }
    }
}
