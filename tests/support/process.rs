//! A child process whose whole output is kept, and which never outlives its test.

use super::eventually;
use std::process::{Command as BlockingCommand, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// A running (or ended) child process. Dropping it kills it, and shows its output if the test is panicking.
pub struct Process {
    name: String,
    pid: u32,
    output: Output,
    exit: watch::Receiver<Option<ExitStatus>>,
}

/// What a process has written so far, standard output and error interleaved line by line.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Process {
    /// Starts `command` with nothing of our environment but `PATH`, so that the machine's settings change no test.
    pub fn spawn(name: &str, command: &mut Command, environment: &[(&str, String)]) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = command
            .env_clear()
            .env("PATH", path)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}: {command:?}"));
        let pid = child.id().expect("a child that was not waited for has an id");
        let output = Output::default();
        let (ended, exit) = watch::channel(None);
        tokio::spawn(supervise(child_streams(&mut child, &output), child, ended));
        Self { name: name.to_owned(), pid, output, exit }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Everything it has written so far; all of it once it has ended.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until `text` appears in its output.
    ///
    /// # Panics
    ///
    /// When it ends before, or `deadline` passes.
    pub async fn wait_for_output(&self, text: &str, deadline: Duration) {
        eventually(&format!("{} says {text:?}", self.name), deadline, async || {
            self.assert_running();
            if self.output().contains(text) { Ok(()) } else { Err(self.output()) }
        })
        .await;
    }

    /// # Panics
    ///
    /// With its output, if it has ended.
    pub fn assert_running(&self) {
        if let Some(status) = self.exit_status() {
            panic!("{} ended with {status}:\n{}", self.name, self.output());
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it is still running after `deadline`.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = timeout(deadline, exit.wait_for(Option::is_some)).await;
        let Ok(status) = ended else {
            panic!("{} is still running after {deadline:?}:\n{}", self.name, self.output())
        };
        status.expect("the supervisor says how it ended").expect("some status")
    }

    /// Kills it on the spot, as a machine that dies does, and waits until it is gone.
    pub async fn kill9(&self) {
        self.killer()();
        self.wait_exit(Duration::from_secs(10)).await;
    }

    /// Asks it to end (SIGTERM); returns how it ended and how long that took.
    pub async fn terminate(&self, deadline: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.assert_running();
        signal("-TERM", self.pid);
        (self.wait_exit(deadline).await, began.elapsed())
    }

    /// What kills it on the spot when called, from anywhere.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        self.signaller("-KILL")
    }

    /// What sends it a signal when called, from anywhere, as long as it runs.
    pub fn signaller(&self, which: &'static str) -> impl Fn() + Send + Sync + 'static {
        let (pid, exit) = (self.pid, self.exit.clone());
        move || {
            if exit.borrow().is_none() {
                signal(which, pid);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killer()();
        if std::thread::panicking() {
            eprintln!("──── output of {} ────\n{}──── end of {} ────", self.name, self.output(), self.name);
        }
    }
}

impl Output {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    async fn collect(self, stream: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            self.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}

fn child_streams(child: &mut Child, output: &Output) -> [tokio::task::JoinHandle<()>; 2] {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    [
        tokio::spawn(output.clone().collect(stdout.expect("piped"))),
        tokio::spawn(output.clone().collect(stderr.expect("piped"))),
    ]
}

/// Tells of the end only when all the output is there.
async fn supervise(
    streams: [tokio::task::JoinHandle<()>; 2],
    mut child: Child,
    ended: watch::Sender<Option<ExitStatus>>,
) {
    let status = child.wait().await.expect("a child can be waited for");
    for stream in streams {
        stream.await.expect("reading output does not panic");
    }
    ended.send_replace(Some(status));
}

/// By the system's tool, since unsafe code is forbidden. A process that has just ended is no error.
fn signal(signal: &str, pid: u32) {
    BlockingCommand::new("/bin/kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("/bin/kill is there");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(script: &str) -> Process {
        Process::spawn(
            "script",
            Command::new("/bin/sh").args(["-c", script]),
            &[("WORD", "hello".to_owned())],
        )
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_all_output_and_the_status() {
        let process = shell("echo $WORD; echo $HOME >&2; printf unfinished; exit 3");
        let status = process.wait_exit(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(3));
        assert!(process.output().contains("hello\n") && process.output().contains("unfinished"));
        assert_eq!(process.exit_status(), Some(status));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn kills_and_terminates() {
        let process = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done");
        process.wait_for_output("up", Duration::from_secs(10)).await;
        let (status, took) = process.terminate(Duration::from_secs(10)).await;
        assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
        assert!(process.output().ends_with("bye\n"));

        let process = shell("trap '' TERM; exec sleep 100");
        process.kill9().await;
        assert_eq!(process.exit_status().and_then(|status| status.signal()), Some(9));
    }

    #[tokio::test(flavor = "multi_thread")]
    #[should_panic(expected = "script ended with exit status: 7:\nno luck\n")]
    async fn says_at_once_why_it_ended_too_early() {
        shell("echo no luck; exit 7").wait_for_output("ready", Duration::from_secs(10)).await;
    }
}
