use proptest::prelude::*;

use super::*;

fn share_a_look(one: &str, other: &str) -> bool {
    let (one, other) = (Username::parse(one).unwrap(), Username::parse(other).unwrap());
    one.looks().iter().any(|look| other.looks().contains(look))
}

#[test]
fn names_people_have_are_let_in() {
    for name in [
        "ann",
        "Ann_B",
        "jean-luc",
        "o.k.2",
        "张伟先生",
        "Ольга",
        "étienne",
        "田中さくら",
        "김철수",
        "अमित",
        "user10",
        "Bob2026",
    ] {
        assert_eq!(
            Username::parse(name).map(|name| name.as_str().to_owned()),
            Ok(name.nfkc().collect()),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    use NameError::*;
    for (name, why) in [
        ("al", UsernameLength),
        ("a234567890123456789012345678901", UsernameLength),
        ("", UsernameLength),
        (".ann", UsernameCharacter),
        ("ann.", UsernameCharacter),
        ("an..n", UsernameCharacter),
        ("an n", UsernameCharacter),
        ("ann@home", UsernameCharacter),
        ("ann\u{202e}xx", UsernameCharacter),
        ("ann\u{200b}", UsernameCharacter),
        ("ann\u{0}", UsernameCharacter),
        ("a\u{0301}\u{0302}\u{0303}\u{0304}nn", UsernameCharacter),
        ("\u{0345}ann", UsernameCharacter),
        ("аnna", MixedScripts),
        ("pαypal", MixedScripts),
        ("admin", Reserved),
        ("ADMIN", Reserved),
        ("adrnin", Reserved),
        ("r00t", Reserved),
        ("Nova", Reserved),
    ] {
        assert_eq!(Username::parse(name), Err(why), "{name:?}");
    }
    assert_eq!(Username::parse(&"x".repeat(1 << 20)), Err(UsernameLength));
}

#[test]
fn names_are_one_whatever_their_case_or_width() {
    for (one, other) in [
        ("Ann", "aNN"),
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ａｎｎ", "ann"),
        ("ÉTIENNE", "e\u{301}tienne"),
    ] {
        let (one, other) = (Username::parse(one).unwrap(), Username::parse(other).unwrap());
        assert_eq!(one.fold(), other.fold());
    }
}

#[test]
fn names_that_look_alike_claim_the_same_look() {
    for (one, other) in [
        ("paypal", "PaypaI"),
        ("ole", "0le"),
        ("mary", "rnary"),
        ("bill", "bi1l"),
        ("аса", "aca"),
        ("Ian", "lan"),
    ] {
        assert!(share_a_look(one, other), "{one} and {other}");
    }
    for (one, other) in [("ann", "anna"), ("user1", "user2"), ("bob", "rob"), ("Ольга", "Олег")] {
        assert!(!share_a_look(one, other), "{one} and {other}");
    }
}

#[test]
fn addresses_are_read_and_compared() {
    for (typed, key) in [
        ("Ann@Example.ORG", "ann@example.org"),
        ("a.b+tag@sub.example.co", "a.b+tag@sub.example.co"),
        ("  ann@example.org ", "ann@example.org"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
    ] {
        assert_eq!(EmailAddress::parse(typed).unwrap().key(), key);
    }
    for typed in [
        "",
        "ann",
        "@example.org",
        "ann@",
        "ann@localhost",
        "ann@@example.org",
        ".ann@example.org",
        "a..n@example.org",
        "ann@127.0.0.1",
        "ann@[::1]",
        "ann@exa mple.org",
        "\"a b\"@example.org",
        "ann@-x.org",
        "ann@x.1",
        "ann\r\nBcc: x@example.org",
    ] {
        assert_eq!(EmailAddress::parse(typed), Err(NameError::Email), "{typed:?}");
    }
    assert_eq!(EmailAddress::parse(&format!("{}@example.org", "a".repeat(65))), Err(NameError::Email));
    assert_eq!(EmailAddress::parse(&format!("a@{}.org", "a.".repeat(200))), Err(NameError::Email));
}

#[test]
fn an_address_that_imitates_another_is_refused() {
    for typed in ["аnn@example.org", "раура@example.org", "ann@аррӏе.com"] {
        assert_eq!(EmailAddress::parse(typed), Err(NameError::EmailLooks), "{typed}");
    }
    let [mary, rnary] =
        ["mary@example.org", "rnary@example.org"].map(|typed| EmailAddress::parse(typed).unwrap());
    assert_ne!(mary.key(), rnary.key(), "two ASCII addresses are two mailboxes");
    assert!(!format!("{mary:?}").contains("mary"));
}

#[test]
fn texts_are_cleaned_and_bounded() {
    assert_eq!(display_name("  Ann \t de  Vries\n"), Ok("Ann de Vries".to_owned()));
    assert_eq!(display_name("👩‍👩‍👧 Ann"), Ok("👩‍👩‍👧 Ann".to_owned()));
    assert_eq!(display_name(" \u{2003}"), Err(NameError::Empty));
    assert_eq!(display_name("nna\u{202e}"), Err(NameError::TextCharacter));
    assert_eq!(display_name("Z\u{300}\u{301}\u{302}\u{303}"), Err(NameError::TextCharacter));
    assert_eq!(display_name(&"x".repeat(51)), Err(NameError::TextLength { chars_max: 50 }));
    assert_eq!(bio("one\r\n  two  \n\n"), Ok("one\ntwo".to_owned()));
    assert_eq!(bio(""), Ok(String::new()));
    assert_eq!(device_name(None), Ok("Unnamed device".to_owned()));
}

proptest! {
    #[test]
    fn nothing_typed_panics(typed in any::<String>()) {
        let _: Result<_, _> = Username::parse(&typed);
        let _: Result<_, _> = EmailAddress::parse(&typed);
        let _: Result<_, _> = EmailAddress::parse(&format!("{typed}@example.org"));
        let _: Result<_, _> = EmailAddress::parse(&format!("ann@{typed}.org"));
        let _: Result<_, _> = (display_name(&typed), bio(&typed)).0;
        login_key(&typed);
    }

    #[test]
    fn a_name_is_found_by_any_spelling_of_it(typed in "[a-zA-Z]{3,12}") {
        if let Ok(name) = Username::parse(&typed) {
            prop_assert_eq!(login_key(&typed.to_uppercase()), name.fold());
            prop_assert_eq!(Username::parse(name.as_str()), Ok(name), "reading is settled after the first time");
        }
    }
}
