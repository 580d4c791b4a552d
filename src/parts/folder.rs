//! An engine made of files: jobs and tasks lie in a directory that all machines see, and workers take them from there.
//!
//! ```text
//! DIR/JOB-4f1c.../job          what all its tasks share
//!                 seconds      after how many seconds without a sign a worker counts as lost
//!                 beat         touched by who waits for the job: a job without it is over
//!                 task-00003   not done yet
//!                 lease-00003  somebody is at it; touched while the worker lives
//!                 done-00003   its result, renamed into place when it is whole
//! ```
//!
//! Nothing but creating, renaming and removing files is asked of the file system, and its own clock is the only one: ages are
//! compared with that of a file just touched. Workers ([`work`]) come and go: job arrays, containers, machines that may be
//! taken away. A task whose worker is lost is free again after [`Folder::LEASE`].

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use super::engine::{Engine, Event};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;

/// How often a directory is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A directory of jobs.
const JOB: &str = "JOB-";

/// Hands tasks to whoever works in a directory.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
    lease: Duration,
}

impl Folder {
    /// A worker that gave no sign for so long is lost.
    pub const LEASE: Duration = Duration::from_secs(60);

    /// The directory is made where it is missing. All workers must see it, and the data under the same paths.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Folder { dir: dir.into(), lease: Self::LEASE }
    }

    /// With another time after which a worker counts as lost, at least a second. Workers give a sign six times in it.
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self
    }
}

fn task(number: u32) -> String {
    format!("task-{number:05}")
}

fn lease(number: u32) -> String {
    format!("lease-{number:05}")
}

fn done(number: u32) -> String {
    format!("done-{number:05}")
}

/// The number of a file of this kind.
fn number(name: &str, kind: &str) -> Option<u32> {
    name.strip_prefix(kind)?.strip_prefix('-')?.parse().ok()
}

/// Writes a file beside its place and renames it.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = dir.join(format!(".{name}.{}.{}.{number}", host(), std::process::id()));
    let path = dir.join(name);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside))).map_err(Error::io("write", &path))
}

/// The name of this machine.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().replace('/', "-")
}

fn touch(path: &Path) -> std::io::Result<SystemTime> {
    // Written to, not only stamped: the time is that of the file system, on whatever machine it is.
    File::options().create(true).write(true).truncate(true).open(path)?.write_all(b"\n")?;
    fs::metadata(path)?.modified()
}

/// How long before `now` a file was last touched; None if it is not there.
fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    let then = fs::metadata(path).ok()?.modified().ok()?;
    Some(now.duration_since(then).unwrap_or_default())
}

/// Names of the files of a job.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// A job's directory, removed when nobody waits for it any more.
struct Posted(PathBuf);

impl Drop for Posted {
    fn drop(&mut self) {
        // What cannot be removed has no beat, so that nobody works on it.
        let _ = fs::remove_file(self.0.join("beat"));
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Engine for Folder {
    fn run(&self, job: &[u8], tasks: &[Vec<u8>], tell: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let name = format!("{JOB}{}-{}-{}", &blake3::hash(job).to_hex()[..16], host(), std::process::id());
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let posted = Posted(dir.clone());
        put(&dir, "seconds", self.lease.as_secs_f64().to_string().as_bytes())?;
        put(&dir, "job", job)?;
        for (bytes, i) in tasks.iter().zip(0..) {
            put(&dir, &task(i), bytes)?;
        }
        let (mut left, mut beat) = (tasks.len(), None::<Instant>);
        while left > 0 {
            let due = beat.is_none_or(|beat| beat.elapsed() > self.lease / 6);
            if due {
                let now = touch(&dir.join("beat")).map_err(Error::io("write", dir.join("beat")))?;
                beat = Some(Instant::now());
                for i in expired(&dir, now, self.lease)? {
                    tell(Event::Retried(i))?;
                }
            }
            let names = names(&dir).map_err(Error::io("read", &dir))?;
            tell(Event::Running(names.iter().filter_map(|name| number(name, "lease")).count() as u32))?;
            let finished: Vec<u32> = names.iter().filter_map(|name| number(name, "done")).collect();
            for &i in &finished {
                let path = dir.join(done(i));
                let result = fs::read(&path).map_err(Error::io("read", &path))?;
                // A second worker may still be at it.
                let new = fs::remove_file(dir.join(task(i))).is_ok();
                let _ = fs::remove_file(path);
                if new {
                    left -= 1;
                    tell(Event::Done(i, result))?;
                }
            }
            if finished.is_empty() {
                std::thread::sleep(LOOK);
            }
        }
        drop(posted);
        Ok(())
    }
}

/// Takes the leases of lost workers away.
fn expired(dir: &Path, now: SystemTime, lease: Duration) -> Result<Vec<u32>> {
    let names = names(dir).map_err(Error::io("read", dir))?;
    let old = |i: &u32| age(&dir.join(self::lease(*i)), now).is_some_and(|age| age > lease);
    let lost: Vec<u32> = names.iter().filter_map(|name| number(name, "lease")).filter(old).collect();
    lost.iter().for_each(|&i| drop(fs::remove_file(dir.join(self::lease(i)))));
    Ok(lost)
}

/// Works in a directory until nothing was to do for `idle`, or the run is cancelled: takes the lowest free task of any job,
/// has `work` make its result of job and task, and puts that into its place. Returns how many tasks it has done.
///
/// # Errors
/// Where the directory cannot be read or written to. What fails in a task is in its result.
pub fn work(
    dir: &Path,
    idle: Duration,
    progress: &Progress,
    work: impl Fn(&[u8], &[u8]) -> Vec<u8>,
) -> Result<u64> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let (mut finished, mut last, mut kept) = (0, Instant::now(), None::<(PathBuf, Vec<u8>)>);
    loop {
        progress.check()?;
        let Some((job, number, seconds)) = take(dir)? else {
            if last.elapsed() >= idle {
                return Ok(finished);
            }
            std::thread::sleep(LOOK);
            continue;
        };
        if kept.as_ref().is_none_or(|(path, _)| *path != job) {
            kept = fs::read(job.join("job")).ok().map(|bytes| (job.clone(), bytes));
        }
        // Jobs end while they are looked at.
        if let (Some((_, bytes)), Ok(task)) = (&kept, fs::read(job.join(task(number)))) {
            let result = alive(&job.join(lease(number)), seconds / 6, || work(bytes, &task));
            if put(&job, &done(number), &result).is_ok() {
                finished += 1;
            } else if job.exists() {
                put(&job, &done(number), &result)?;
            }
        }
        let _ = fs::remove_file(job.join(lease(number)));
        last = Instant::now();
    }
}

/// Touches the lease now and then while `work` goes on.
fn alive<T>(lease: &Path, every: Duration, work: impl FnOnce() -> T) -> T {
    let (over, ended) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                // A lease that was taken away must not come back.
                if lease.exists() {
                    let _ = touch(lease);
                }
            }
        });
        let result = work();
        drop(over);
        result
    })
}

/// The lowest free task of the first job that somebody waits for, now leased, and after how long a lease ends.
fn take(dir: &Path) -> Result<Option<(PathBuf, u32, Duration)>> {
    let jobs = names(dir).map_err(Error::io("read", dir))?;
    for job in jobs.iter().filter(|name| name.starts_with(JOB)).map(|name| dir.join(name)) {
        let text = fs::read_to_string(job.join("seconds")).unwrap_or_default();
        let Some(seconds) = text.trim().parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0) else {
            continue;
        };
        let seconds = Duration::from_secs_f64(seconds.min(1e6));
        // A job may end while it is looked at.
        let Ok(files) = names(&job) else { continue };
        let there = |name: &String| files.binary_search(name).is_ok();
        let free = |i: &u32| !there(&lease(*i)) && !there(&done(*i));
        for i in files.iter().filter_map(|name| number(name, "task")).filter(free) {
            let path = job.join(lease(i));
            if File::options().create_new(true).write(true).open(&path).is_err() {
                continue;
            }
            // The lease just made has the time of now.
            let now =
                fs::metadata(&path).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let waited = age(&job.join("beat"), now).is_some_and(|age| age <= seconds);
            if waited && job.join(task(i)).exists() && !job.join(done(i)).exists() {
                return Ok(Some((job, i, seconds)));
            }
            let _ = fs::remove_file(&path);
            if !waited {
                break;
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn joined(job: &[u8], task: &[u8]) -> Vec<u8> {
        [job, b"/", task].concat()
    }

    /// Runs so many tasks with workers that are started one after the other.
    fn results(folder: &Folder, tasks: u8, workers: usize) -> BTreeMap<u32, Vec<u8>> {
        let tasks: Vec<Vec<u8>> = (0..tasks).map(|i| vec![i]).collect();
        let mut found = BTreeMap::new();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let dir = folder.dir.clone();
                scope.spawn(move || {
                    work(&dir, Duration::from_millis(400), &Progress::default(), joined).unwrap()
                });
            }
            let mut tell = |event| {
                if let Event::Done(i, bytes) = event {
                    assert!(found.insert(i, bytes).is_none(), "task {i} is told once");
                }
                Ok(())
            };
            folder.run(b"job", &tasks, &mut tell).unwrap();
        });
        found
    }

    #[test]
    fn workers_do_every_task_once_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let found = results(&Folder::new(dir.path()), 40, 3);
        assert!(found.iter().all(|(&i, bytes)| *bytes == joined(b"job", &[i as u8])));
        assert_eq!((found.len(), names(dir.path()).unwrap().len()), (40, 0));
    }

    #[test]
    fn a_lost_worker_frees_its_task() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path()).with_lease(Duration::from_secs(1));
        let (lost, ready) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            // Takes a task and is never heard of again.
            scope.spawn(move || {
                loop {
                    if let Some((job, i, _)) = take(dir.path()).unwrap() {
                        break lost.send((job, i, dir)).unwrap();
                    }
                }
            });
            let path = folder.dir.clone();
            scope.spawn(move || {
                let _dir = ready.recv().unwrap();
                work(&path, Duration::from_secs(3), &Progress::default(), joined).unwrap();
            });
            let (mut done, mut retried) = (0, 0);
            let mut tell = |event| {
                match event {
                    Event::Done(..) => done += 1,
                    Event::Retried(_) => retried += 1,
                    Event::Running(_) => {}
                }
                Ok(())
            };
            folder.run(b"job", &[vec![1], vec![2]], &mut tell).unwrap();
            assert_eq!((done, retried), (2, 1));
        });
    }

    #[test]
    fn who_stops_waiting_takes_the_job_along() {
        let dir = tempfile::tempdir().unwrap();
        let stop = |_| Err(Error::Interrupted);
        let end = Folder::new(dir.path()).run(b"job", &[vec![1]], &mut { stop });
        assert!(matches!(end, Err(Error::Interrupted)));
        assert!(names(dir.path()).unwrap().is_empty() && take(dir.path()).unwrap().is_none());
    }
}
