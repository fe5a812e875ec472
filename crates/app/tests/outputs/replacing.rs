//! What an output replaces, and what it does not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::{Bench, CASES};

#[test]
fn a_file_of_another_kind_is_not_replaced_unless_forced() {
    let bench = Bench::new("foreign");
    fs::create_dir_all(bench.path("photos")).unwrap();
    for name in ["frame_00001.png", "curves.json"] {
        fs::write(bench.path("photos").join(name), "precious").unwrap();
    }
    for case in CASES {
        if case.writes_into_folder() {
            bench.refuses(case, "photos", &[], "add --force to replace it");
            continue;
        }
        let Some(extension) = case.extension() else {
            for more in [&[][..], &["--force"]] {
                bench.refuses(case, "photos", more, "is not empty; name a new one");
            }
            bench.refuses(case, ".", &[], "name a new one");
            continue;
        };
        let name = format!("somebody's.{extension}");
        let kinds = ["talk.fcs", "clip.y4m", "me.face"];
        let files = kinds.map(|kind| (kind, fs::read(bench.path(kind)).unwrap()));
        for (kind, contents) in files.iter().chain(&[("photo", b"precious".to_vec())]) {
            // A clip is one in any format, and the built-in face has a private part.
            let is_same_kind = case.extension() == kind.split_once('.').map(|(_, kind)| kind)
                || (*kind == "clip.y4m" && extension == "mp4");
            if !is_same_kind || case.args.contains(&"export") {
                fs::write(bench.path(&name), contents).unwrap();
                bench.refuses(case, &name, &[], "add --force to replace it");
            }
        }
    }
    // With --force the file is replaced once the new one is complete.
    let decrypt = ["model", "decrypt", "me.face", "--out", "somebody's.face"];
    bench.succeeds(&[&decrypt[..], &["--force"]].concat());
    let [new, face] = ["somebody's.face", "me.face"].map(|name| fs::read(bench.path(name)));
    assert_eq!(new.unwrap(), face.unwrap());
}

#[test]
fn a_private_or_encrypted_face_is_not_replaced_by_less_than_it() {
    let bench = Bench::new("faces");
    let [export, decrypt] = ["export", "decrypt"].map(|command| {
        CASES.iter().find(|case| case.args.starts_with(&["model", command])).unwrap()
    });
    fs::copy(bench.path("me.face"), bench.path("friend.face")).unwrap();
    bench.refuses(export, "friend.face", &[], "is not the public part of a face");
    bench.succeeds(&["model", "encrypt", "friend.face"]);
    bench.refuses(export, "friend.face", &[], "is not the public part of a face");
    bench.refuses(decrypt, "friend.face", &[], "is not an unencrypted face file");
}

#[test]
fn an_earlier_output_is_replaced_and_a_link_stays_a_link() {
    let bench = Bench::new("again");
    fs::create_dir(bench.path("disk")).unwrap();
    for (i, case) in CASES.iter().enumerate() {
        // Those that end without an output of their own.
        if ["call", "join", "demo"].contains(&case.args[0]) || case.args.contains(&"--curve") {
            continue;
        }
        let link = format!("{i}-{}", case.out);
        let target = bench.path(&format!("disk/{link}"));
        symlink(&target, bench.path(&link)).unwrap();
        let args = [case.args, &[&link]].concat();
        // A dangling link first, then a file behind it. An enrollment takes too long for both.
        if case.args[0] == "enroll" {
            fs::copy(bench.path("me.face"), &target).unwrap();
        } else if case.writes_into_folder() {
            fs::create_dir(&target).unwrap();
        } else {
            bench.succeeds(&args);
        }
        if case.args[0] == "decode" && case.extension().is_none() {
            bench.refuses(case, &link, &[], "is not empty");
        } else {
            bench.succeeds(&args);
        }
        assert!(bench.path(&link).is_symlink(), "{args:?}");
        let about = target.symlink_metadata().unwrap();
        assert!(!about.is_symlink(), "{args:?}");
        let mode = about.permissions().mode() & 0o777;
        assert!(mode == 0o600 || (about.is_dir() && mode & 0o700 == 0o700), "{args:?}: {mode:o}");
    }
}

#[test]
fn a_write_protected_or_an_empty_file_is_judged_by_what_there_is_to_lose() {
    let bench = Bench::new("protected");
    let encode = &CASES[0];
    fs::copy(bench.path("talk.fcs"), bench.path("kept.fcs")).unwrap();
    fs::set_permissions(bench.path("kept.fcs"), fs::Permissions::from_mode(0o444)).unwrap();
    bench.refuses(encode, "kept.fcs", &[], "is write-protected");
    // As `mktemp` makes it.
    fs::write(bench.path("new"), "").unwrap();
    bench.succeeds(&[encode.args, &["new"]].concat());
    assert_eq!(fs::read(bench.path("new")).unwrap(), fs::read(bench.path("talk.fcs")).unwrap());
}
