//! Who may connect, and who may publish and subscribe to what. Pure.

use super::super::{codec::ConnectAuth, topics};
use crate::system::secret::same;
use std::{rc::Rc, sync::Arc};

/// One user of the endpoint.
#[derive(Clone)]
pub struct Account {
    pub name: String,
    pub password: String,
    /// Filters that it may publish to. Empty: everything.
    pub publish: Vec<String>,
    /// Filters that it may subscribe to. Empty: everything.
    pub subscribe: Vec<String>,
}

/// The rights of one connection.
pub struct Rights {
    pub user: Option<Arc<str>>,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

pub struct Users {
    accounts: Vec<(Account, Rc<Rights>)>,
    anonymous: Rc<Rights>,
}

impl Users {
    /// Without accounts everybody may connect and do everything; the configuration allows that on loopback only, or
    /// where the operator said so aloud.
    pub fn new(accounts: Vec<Account>) -> Users {
        let rights = |account: &Account| {
            let user = Some(Arc::from(account.name.as_str()));
            Rc::new(Rights { user, publish: account.publish.clone(), subscribe: account.subscribe.clone() })
        };
        let accounts = accounts.into_iter().map(|account| (rights(&account), account)).map(|(rights, account)| (account, rights)).collect();
        Users { accounts, anonymous: Rc::new(Rights { user: None, publish: Vec::new(), subscribe: Vec::new() }) }
    }

    /// `None`: refused. Takes the same time whether the name or the password is wrong.
    pub fn admit(&self, auth: &ConnectAuth) -> Option<Rc<Rights>> {
        if self.accounts.is_empty() {
            return Some(self.anonymous.clone());
        }
        let ConnectAuth::UsernamePassword { username, password } = auth else { return None };
        let mut found = None;
        for (account, rights) in &self.accounts {
            let right = same(account.password.as_bytes(), password);
            if same(account.name.as_bytes(), username.as_bytes()) && right {
                found = Some(rights.clone());
            }
        }
        found
    }
}

impl Rights {
    pub fn may_publish(&self, topic: &str) -> bool {
        !topic.starts_with('$') && (self.publish.is_empty() || self.publish.iter().any(|right| topics::matches(right, topic)))
    }

    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.subscribe.is_empty() || self.subscribe.iter().any(|right| topics::covers(right, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { name: "plugs".into(), password: "secret".into(), publish: vec!["tele/#".into()], subscribe: vec!["cmnd/#".into()] }
    }

    fn with(name: &str, password: &str) -> ConnectAuth {
        ConnectAuth::UsernamePassword { username: name.into(), password: password.to_owned().into() }
    }

    #[test]
    fn only_the_right_name_and_password_are_admitted() {
        let users = Users::new(vec![account()]);
        assert!(users.admit(&with("plugs", "secret")).is_some());
        for (name, password) in [("plugs", "Secret"), ("plugs", ""), ("plugs", "secret2"), ("plugs", "secre"), ("plug", "secret"), ("", "")]
        {
            assert!(users.admit(&with(name, password)).is_none(), "{name} {password}");
        }
        assert!(users.admit(&ConnectAuth::None).is_none());
        assert!(users.admit(&ConnectAuth::Username { username: "plugs".into() }).is_none());
        assert!(Users::new(Vec::new()).admit(&ConnectAuth::None).is_some());
    }

    #[test]
    fn rights_are_by_topic() {
        let rights = Users::new(vec![account()]).admit(&with("plugs", "secret")).unwrap();
        assert!(rights.may_publish("tele/x/SENSOR") && !rights.may_publish("stat/x") && !rights.may_publish("$SYS/x"));
        assert!(rights.may_subscribe("cmnd/x/+") && !rights.may_subscribe("#") && !rights.may_subscribe("+/x"));
        let all = Users::new(Vec::new()).admit(&ConnectAuth::None).unwrap();
        assert!(all.may_publish("x") && all.may_subscribe("#") && !all.may_publish("$SYS/x"));
    }
}
