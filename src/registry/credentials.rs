//! What we show a registry to manage clients there.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{
    digest,
    error::{Error, Kind},
};

/// Credentials are read again after this time, and at once after a registry refused them.
const LIVE: Duration = Duration::from_mins(1);

/// Credentials as the registry's Secret holds them.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A token or API key.
    Bearer(SecretString),
    /// A person's name and password.
    Password {
        /// The e-mail address or name.
        user: String,
        /// The password.
        password: SecretString,
    },
}

impl Credentials {
    /// Tells credentials apart without showing them. A password may change under the same name: it opens the same account.
    pub fn fingerprint(&self) -> String {
        let text = match self {
            Self::Bearer(token) => token.expose_secret(),
            Self::Password { user, .. } => user,
        };
        digest(&["credentials", text])[..16].to_owned()
    }

    /// Whether these are the same to the last character.
    pub fn is(&self, other: &Self) -> bool {
        (self.fingerprint(), self.secret().expose_secret())
            == (other.fingerprint(), other.secret().expose_secret())
    }

    /// What must stand in no text.
    pub fn secret(&self) -> &SecretString {
        match self {
            Self::Bearer(secret) | Self::Password { password: secret, .. } => secret,
        }
    }
}

/// Refused credentials are not shown again within this time, and each further time for twice as long: accounts are locked
/// after a few tries.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// The sign-in that a registry refused last. Other credentials may be tried at once.
#[derive(Default)]
pub struct Refusal(Option<Refused>);

struct Refused {
    credentials: Credentials,
    error: Error,
    pause: Duration,
    until: Instant,
}

impl Refusal {
    /// What the registry would say to these credentials again.
    pub fn of(&self, credentials: &Credentials) -> Option<Error> {
        let refused = self.0.as_ref().filter(|refused| refused.credentials.is(credentials))?;
        let left = refused.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let mut error = refused.error.clone();
        if let Kind::Throttled(wait) = &mut error.kind {
            *wait = left;
        }
        Some(error)
    }

    /// The registry refused these credentials.
    pub fn note(&mut self, credentials: &Credentials, error: &Error) {
        if self.of(credentials).is_some() {
            return;
        }
        let again = self.0.take().filter(|before| before.credentials.is(credentials));
        let pause = again.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        let asked = if let Kind::Throttled(wait) = error.kind { wait } else { Duration::ZERO };
        let (credentials, error) = (credentials.clone(), error.clone());
        self.0 = Some(Refused { credentials, error, pause, until: Instant::now() + pause.max(asked) });
    }

    /// The registry accepted credentials.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// The credentials that were read last: kept for deletions after their Secret is gone, and so that a thousand clients read it once.
#[derive(Default)]
pub struct Kept {
    read: Option<(Instant, Credentials)>,
    refused: bool,
}

impl Kept {
    /// The credentials, if they need not be read again.
    pub fn fresh(&self) -> Option<Credentials> {
        let (at, credentials) = self.read.as_ref()?;
        (!self.refused && at.elapsed() < LIVE).then(|| credentials.clone())
    }

    /// The last good ones, however old.
    pub fn last(&self) -> Option<Credentials> {
        self.read.as_ref().map(|(_, credentials)| credentials.clone())
    }

    /// Keeps what was read. Returns whether it differs from what was kept.
    pub fn keep(&mut self, credentials: Credentials) -> bool {
        let same = self.last().is_some_and(|before| before.is(&credentials));
        self.read = Some((Instant::now(), credentials));
        self.refused = false;
        !same
    }

    /// The registry refused them: somebody may have put other ones there.
    pub fn refused(&mut self) {
        self.refused = true;
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("refused", &self.refused).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn a_fingerprint_tells_accounts_apart_and_the_rest_tells_credentials_apart() {
        let token = |token: &str| Credentials::Bearer(token.into());
        let cases = [
            (token("s3cr3t-a"), token("s3cr3t-a"), true, true, "the same token"),
            (token("s3cr3t-a"), token("s3cr3t-b"), false, false, "another token may be another account's"),
            (
                password("u", "s3cr3t-a"),
                password("u", "s3cr3t-b"),
                true,
                false,
                "the same person with another password",
            ),
            (
                password("u", "s3cr3t-a"),
                password("v", "s3cr3t-a"),
                false,
                false,
                "another person with the same password",
            ),
        ];
        for (one, other, same_account, same, reason) in cases {
            assert_eq!(one.fingerprint() == other.fingerprint(), same_account, "{reason}");
            assert_eq!(one.is(&other), same, "{reason}");
            assert!(!one.fingerprint().contains(one.secret().expose_secret()), "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_read_again_after_a_while_and_at_once_when_refused() {
        let mut kept = Kept::default();
        assert!(kept.fresh().is_none() && kept.last().is_none(), "nothing was read");
        assert!(kept.keep(password("u", "a")), "something new");
        assert!(!kept.keep(password("u", "a")), "nothing new");
        assert!(kept.fresh().is_some());
        kept.refused();
        assert!(kept.fresh().is_none() && kept.last().is_some(), "refused, but all that there is");
        assert!(kept.keep(password("u", "b")) && kept.fresh().is_some(), "other ones may be good");
        tokio::time::advance(LIVE).await;
        assert!(kept.fresh().is_none() && kept.last().is_some(), "old, but good for a deletion");
    }

    #[tokio::test(start_paused = true)]
    async fn refused_credentials_are_shown_ever_more_rarely() {
        let (mut refusal, error) = (Refusal::default(), Error::new(Kind::Unauthorized, "no"));
        let ours = password("u", "a");
        for minutes in [1, 2, 4, 8, 15, 15] {
            refusal.note(&ours, &error);
            let pause = Duration::from_mins(minutes);
            tokio::time::advance(pause.saturating_sub(Duration::from_secs(1))).await;
            assert_eq!(refusal.of(&ours), Some(error.clone()), "{minutes} minutes are not over");
            refusal.note(&ours, &error);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(refusal.of(&ours), None, "{minutes} minutes are over");
        }
        refusal.note(&ours, &error);
        assert_eq!(refusal.of(&password("u", "b")), None, "other ones may be tried at once");
        refusal.forget();
        assert_eq!(refusal.of(&ours), None);
        refusal.note(&ours, &error);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(refusal.of(&ours), None, "a success starts the count again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_for_a_time_says_how_much_of_it_is_left() {
        let (mut refusal, ours) = (Refusal::default(), password("u", "a"));
        let asked = Duration::from_mins(5);
        refusal.note(&ours, &Error::new(Kind::Throttled(asked), "locked"));
        tokio::time::advance(Duration::from_mins(2)).await;
        let left = Kind::Throttled(Duration::from_mins(3));
        assert_eq!(refusal.of(&ours).map(|error| error.kind), Some(left));
    }
}
