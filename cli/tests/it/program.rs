//! The program `composable`.

use crate::support::{Fixture, composable, text};

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_happened() {
    let fixture = Fixture::new().await;
    let url = fixture.url();
    let missing = format!("sqlite:{}", fixture.path("missing.db").display());
    let nowhere = "postgres://app:secret@127.0.0.1:1/shop";
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--store", &url, "queues", "list"], 0, ""),
        (&["--store", &url, "doctor"], 1, ""),
        (&["--store", &url, "fly"], 2, "unrecognized subcommand 'fly'"),
        (&["queues", "list"], 2, "say which store, with --store or COMPOSABLE_STORE"),
        (&["--store", "mysql:x", "queues", "list"], 2, "unknown scheme"),
        (&["--store", &missing, "queues", "list"], 3, "there is no event log"),
        (&["--store", nowhere, "queues", "list"], 3, "cannot connect to the PostgreSQL server"),
        (&["--store", &url, "streams", "show", "order-99"], 4, "there is no stream `order-99`"),
        (&["--store", &url, "dead", "redrive", "--all"], 5, "add --yes"),
        (&["--store", &url, "streams", "state", "order-1"], 5, "is not registered here"),
        (&["--store", &url, "migrate", "check"], 2, "only stores on PostgreSQL"),
    ];
    for (args, code, error) in cases {
        let output = composable(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {out}{err}");
        assert!(err.contains(error) && !err.contains("secret"), "{args:?}: {err}");
    }
    assert!(!fixture.path("missing.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_left_alone() {
    let fixture = Fixture::empty();
    std::fs::write(fixture.path("shop.db"), "").unwrap();
    let output = composable(&["--store", &fixture.url(), "queues", "list"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(fixture.path("shop.db")).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_copy_that_verifies() {
    let fixture = Fixture::new().await;
    let copy = fixture.path("copy.db");
    let copy = copy.to_str().unwrap();
    let output = composable(&["--store", &fixture.url(), "backup", copy]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let again = composable(&["--store", &fixture.url(), "backup", copy]);
    assert_eq!(again.status.code(), Some(5), "{}", text(&again.stderr));
    // No process works on a copy by mistake.
    let url = format!("sqlite:{copy}");
    let output = composable(&["--store", &url, "verify"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let adopt = |args: &[&str]| {
        let output = composable(&[&["--store", &url, "adopt"], args].concat());
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, shown) = adopt(&["successor", "--dry-run"]);
    assert_eq!((code, &*shown), (0, "would continue the log here\n"));
    let (code, shown) = adopt(&["successor"]);
    assert_eq!(code, 5, "{shown}");
    let (code, shown) = adopt(&["successor", "--yes", "--reason", "restored"]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = adopt(&["copy", "--yes", "--json"]);
    assert_eq!((code, &*shown.split_whitespace().collect::<String>()), (0, "{\"adopted\":false}"));
    let output = composable(&["--store", &url, "verify"]);
    assert!(text(&output.stdout).contains("no problems"), "{}", text(&output.stderr));
    let output = composable(&["--store", &url, "audit"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("adopt") && shown.contains("restored"), "{shown}");
    // A copy that the store cannot know of.
    let (code, shown) = adopt(&["copy", "--undetected", "--yes"]);
    assert!(code == 0 && shown.contains("which is paused"), "{shown}");
    let (code, shown) = adopt(&["successor", "--undetected", "--yes"]);
    assert_eq!(code, 2, "{shown}");
}

#[test]
fn completions_and_manual_pages_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = composable(&["completions", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("redrive"), "{shell}");
    }
    let page = text(&composable(&["man"]).stdout);
    assert!(page.contains(".TH composable 1") && page.contains("Exit codes"), "{page}");
    let page = text(&composable(&["man", "dead", "redrive"]).stdout);
    assert!(page.contains("rehearses with this build"), "{page}");
    assert_eq!(composable(&["man", "fly"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(unix)]
async fn followed_and_watched_output_ends_with_ctrl_c() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::{Duration, Instant};

    let fixture = Fixture::new().await;
    for (args, first) in [
        (&["events", "--follow", "--json"][..], "\"name\":\"operators."),
        (&["queues", "list", "--watch", "1"], "QUEUE"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_composable"))
            .args(["--store", &fixture.url()])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let printed = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in printed.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        let url = fixture.url();
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = loop {
            // Again and again: the program follows what is recorded after its start.
            let writer = composable(&["--store", &url, "log", "pause"]);
            assert!(writer.status.success(), "{}", text(&writer.stderr));
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if !line.is_empty() => break line,
                Err(RecvTimeoutError::Disconnected) => panic!("the program ended"),
                _ => assert!(Instant::now() < deadline, "nothing was printed"),
            }
        };
        assert!(found.contains(first), "{found}");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
