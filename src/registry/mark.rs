//! The owner mark: what tells our clients from everybody else's where a registry lets them be listed.

use super::digest;

/// Whose a client is. A mark holds the installation and the object's UID, never a name: names are used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The installation that registered it (the UID of the operator's namespace).
    pub installation: String,
    /// The UID of the object.
    pub uid: String,
    /// The attempt that made it.
    pub nonce: String,
    /// The nonce of the record that the attempt was to replace.
    pub replaces: Option<String>,
}

/// A mark as a registry shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShownMark {
    /// In full: `oauth-operator/<installation>/<uid>/<nonce>`.
    Full {
        /// The installation.
        installation: String,
        /// The UID of the object.
        uid: String,
        /// The attempt.
        nonce: String,
    },
    /// As a tag, where there is room for no more.
    Tag(String),
}

/// The first part of a mark in full.
const PREFIX: &str = "oauth-operator";
/// Between the parts of a tag: the installation's, the object's, and that of what is done.
const TAG_SEPARATOR: char = '-';
/// Hexadecimal digits of each part: enough to tell installations, and never to meet another object by chance.
const TAG: [usize; 3] = [6, 12, 4];

impl Mark {
    /// The mark in full.
    pub fn text(&self) -> String {
        format!("{PREFIX}/{}/{}/{}", self.installation, self.uid, self.nonce)
    }

    /// The short form: the same for every attempt to do the same, so that a registry with unique names lets only one through.
    pub fn tag(&self) -> String {
        let replaces = self.replaces.as_deref().unwrap_or_default();
        let deed = &digest(&[replaces])[..TAG[2]];
        format!("{}{TAG_SEPARATOR}{deed}", object_tag(&self.installation, &self.uid))
    }

    /// Whether a shown mark is this very one.
    pub fn is(&self, shown: &ShownMark) -> bool {
        match shown {
            ShownMark::Full { installation, uid, nonce } => {
                (installation, uid, nonce) == (&self.installation, &self.uid, &self.nonce)
            }
            ShownMark::Tag(tag) => *tag == self.tag(),
        }
    }
}

impl ShownMark {
    /// Reads a mark in full; anything else is nobody's mark.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (prefix, installation, uid, nonce) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && ![installation, uid, nonce].contains(&"");
        (prefix == PREFIX && whole).then(|| Self::Full {
            installation: installation.into(),
            uid: uid.into(),
            nonce: nonce.into(),
        })
    }

    /// Reads a tag; anything else is nobody's.
    pub fn read_tag(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(TAG_SEPARATOR).collect();
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let whole = parts.iter().map(|part| part.len()).eq(TAG) && parts.iter().all(|part| hex(part));
        whole.then(|| Self::Tag(text.into()))
    }

    /// Whether this installation made it.
    pub fn is_of(&self, installation: &str) -> bool {
        match self {
            Self::Full { installation: shown, .. } => shown == installation,
            Self::Tag(tag) => {
                tag.split_once(TAG_SEPARATOR).is_some_and(|(part, _)| part == installation_tag(installation))
            }
        }
    }

    /// Whether it was made for this object, by whichever attempt.
    pub fn is_of_object(&self, installation: &str, uid: &str) -> bool {
        match self {
            Self::Full { installation: shown, uid: of, .. } => {
                (shown.as_str(), of.as_str()) == (installation, uid)
            }
            Self::Tag(tag) => {
                tag.rsplit_once(TAG_SEPARATOR).is_some_and(|(part, _)| part == object_tag(installation, uid))
            }
        }
    }
}

fn installation_tag(installation: &str) -> String {
    digest(&[installation])[..TAG[0]].to_owned()
}

fn object_tag(installation: &str, uid: &str) -> String {
    let object = &digest(&[installation, uid])[..TAG[1]];
    format!("{}{TAG_SEPARATOR}{object}", installation_tag(installation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(uid: &str, nonce: &str, replaces: Option<&str>) -> Mark {
        let replaces = replaces.map(str::to_owned);
        Mark { installation: "inst".into(), uid: uid.into(), nonce: nonce.into(), replaces }
    }

    #[test]
    fn a_mark_reads_back_as_it_was_written() {
        let ours = mark("uid-1", "n1", None);
        assert!(ours.is(&ShownMark::read(&ours.text()).unwrap()), "in full");
        assert!(ours.is(&ShownMark::read_tag(&ours.tag()).unwrap()), "as a tag");
        assert!(ShownMark::read(&ours.text()).unwrap().is_of("inst"));
        assert!(ShownMark::read_tag(&ours.tag()).unwrap().is_of("inst"));
    }

    #[test]
    fn only_the_very_mark_is_the_mark() {
        let ours = mark("uid-1", "n1", None);
        let others = [
            (mark("uid-2", "n1", None), true, true, "another object"),
            (mark("uid-1", "n2", None), true, false, "another attempt to do the same has the same tag"),
            (mark("uid-1", "n2", Some("n1")), true, true, "a replacement"),
            (Mark { installation: "other".into(), ..ours.clone() }, true, true, "another installation"),
        ];
        for (other, differs, tag_differs, reason) in others {
            assert_eq!(!ours.is(&ShownMark::read(&other.text()).unwrap()), differs, "{reason}");
            assert_eq!(!ours.is(&ShownMark::read_tag(&other.tag()).unwrap()), tag_differs, "{reason}");
        }
    }

    #[test]
    fn what_people_write_is_no_mark() {
        for text in [
            "",
            "Booking portal",
            "oauth-operator",
            "oauth-operator/a/b",
            "oauth-operator/a//c",
            "oauth-operator/a/b/c/d",
            "x/a/b/c",
        ] {
            assert_eq!(ShownMark::read(text), None, "{text}");
        }
        for text in [
            "",
            "abcdef",
            "abcdef-0123456789",
            "ABCDEF-0123456789ab",
            "abcdef_0123456789ab",
            "abcdef-0123456789abc",
        ] {
            assert_eq!(ShownMark::read_tag(text), None, "{text}");
        }
    }

    /// Tags stand at registries for years: another text for the same object would make a second client.
    #[test]
    fn a_tag_never_changes_between_versions() {
        assert_eq!(mark("uid-1", "n1", None).tag(), "af123b-a75079c1d35c-af55");
    }
}
