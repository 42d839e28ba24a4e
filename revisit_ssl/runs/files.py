"""Files that are whole or not there, also after a power cut; locks; what a killed process left half-written."""

import contextlib
import fcntl
import glob
import os
import socket
import sys
import threading

import tensorflow as tf

from revisit_ssl.errors import InputError, reason

LEFT_OVERS = ("*.partial", "*.partial.keras", "*.partial-*")  # names that this package writes under before it renames


def write_atomically(path, data):
    """Writes text or bytes so that ``path`` holds either the old content or all of the new.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path = str(path)
    partial = f"{path}.partial"
    try:
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        with tf.io.gfile.GFile(partial, "wb" if isinstance(data, bytes) else "w") as file:
            file.write(data)
        put_in_place(partial, path)
    except (OSError, tf.errors.OpError) as error:
        discard(partial)
        raise InputError(f"cannot write {path} ({reason(error)}); free space or choose another --workdir") from None


def put_in_place(partial, path):
    """Renames a whole file to its name; on a local disk both the file and its name are there for good then.

    Raises:
        OSError, tf.errors.OpError: the disk is full, or a folder that cannot be written.
    """
    if "://" in path:  # a bucket keeps what it has taken
        tf.io.gfile.rename(partial, path, overwrite=True)
        return
    sync(partial)
    os.replace(partial, path)
    sync(os.path.dirname(path) or ".")


def sync(path):
    """Waits until a local file, or the names in a local folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def discard(path):
    """Removes a half-written file if it is there; silent where even that fails, since an error is being reported."""
    try:
        if tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)
    except (OSError, tf.errors.OpError):
        pass


def remove_left_overs(folder):
    """Removes half-written files of a local folder, but for those that a process is writing to, and holds the lock of.

    Of a file and what belongs to it (``features.npy.partial-1a2b`` and ``features.npy.partial-1a2b.json``) the first
    one's lock is that of both.
    """
    patterns = [os.path.join(glob.escape(folder), pattern) for pattern in LEFT_OVERS]
    for name in sorted(name for pattern in patterns for name in glob.glob(pattern)):
        with contextlib.suppress(OSError), open(name, "r+b") as file:  # some file systems lock only what is writable
            owner = name.removesuffix(".json")
            if locked(file) and not (owner != name and os.path.exists(owner)):
                os.remove(name)


def locked(file, wait=False):
    """Takes the lock of an open file, which ends when the file is closed, however its process ends: none is ever stale.

    Args:
        file: open for writing.
        wait: until it is free.

    Returns:
        False where somebody else has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except BlockingIOError:
        return False


_held = {}  # {path: thread} of this process: what holds a folder may call what needs it


@contextlib.contextmanager
def only_here(folder, name, who, *, wait=False, again=False, flag="--workdir"):
    """Holds the lock ``name`` of a folder, which is made.

    Nothing is locked in a bucket; where a file system has no locks one line says so. A folder that was made for the
    lock, and is still empty, is removed with it.

    Args:
        folder: path.
        name: of the lock's file, which is there as long as it is held.
        who: "another run": who holds it where it is taken.
        wait: until it is free.
        again: whether the thread that holds it may take it once more.
        flag: that names another folder.

    Raises:
        InputError: another process holds it, or the folder cannot be written to.
    """
    path = os.path.join(os.path.realpath(folder), name)
    if "://" in folder or (again and _held.get(path) == threading.get_ident()):
        yield
        return
    made = not os.path.isdir(folder)
    with _taken(folder, path, who, wait, flag):
        _held[path] = threading.get_ident()
        try:
            yield
        finally:
            del _held[path]
            with contextlib.suppress(OSError):
                os.remove(path)  # while it is held: who waits for it sees that it is gone, and makes a new one
                if made:
                    os.rmdir(folder)


@contextlib.contextmanager
def _taken(folder, path, who, wait, flag):
    """The open lock file at ``path``, locked, and still the one of that name."""
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            file = open(path, "a+")  # noqa: SIM115 - closed below
        except OSError as error:
            raise InputError(f"cannot write to {folder} ({reason(error)}); choose another {flag}") from None
        with file:
            try:
                free = locked(file, wait)
            except OSError as error:
                free = True
                print(f"warning: cannot lock {path} ({reason(error)}): see to it that one run writes", file=sys.stderr)
            if not free:
                file.seek(0)
                number, _, host = file.read().strip().partition(" on ")
                place = f" on {host}" if host not in ("", socket.gethostname()) else ""
                raise InputError(
                    f"{who} (process {number}{place}) works in {folder}; wait for its end or choose another {flag}"
                )
            if not _is(file, path):  # its holder has removed it meanwhile
                continue
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield file
            return


def _is(file, path):
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def is_taken(path):
    """Whether a process holds the lock of that file."""
    try:
        with open(path, "r+b") as file:  # some file systems lock only what is open for writing
            return not locked(file)
    except FileNotFoundError:
        return False
