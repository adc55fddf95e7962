# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that appear whole or not at all, and a lock on a folder."""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIST = "files.json"
CACHE = "__pycache__"
BLOCK = 2**22  # bytes that are read at a time


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as it was, or as it is to be, whenever this process is killed."""
    part = Path(_part_of(str(path)))
    part.write_text(text, encoding="utf-8")
    put_file_in_place(part, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, as `write_text` does."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def list_files(folder: Path) -> None:
    """Write to a folder which files it has, and how long they are."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    write_json(folder / LIST, {str(f.relative_to(folder)): f.stat().st_size for f in found})


def has_all_files(folder: Path) -> bool:
    """Return whether a folder has all files that it had when they were listed."""
    listed = read_json(folder / LIST)
    return listed is not None and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in listed.items()
    )


def stamp(path: Path) -> str:
    """Return a digest of a file or folder: of names, sizes and times of change, not of contents."""
    stats = [(name, file.stat()) for name, file in _files_of(path)]
    found = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return digest(json.dumps(found).encode())


def contents(path: Path) -> str:
    """Return a digest of a file or folder: of names and contents, which a copy has as well."""
    found = []
    for name, file in _files_of(path):
        hashed = hashlib.sha256()
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                hashed.update(block)
        found.append((name, hashed.hexdigest()))
    return digest(json.dumps(found).encode())


def _files_of(path: Path) -> list[tuple[str, Path]]:
    """Return the files of a folder by their names in it, or a file.

    What Python keeps in __pycache__, as tasks import modules, has no part in it.
    """
    if not path.is_dir():
        return [("", path)]
    walked = os.walk(path, followlinks=True)
    every = (Path(where, name) for where, _, names in walked for name in names)
    return [
        (str(file.relative_to(path)), file) for file in sorted(every) if CACHE not in file.parts
    ]


def digest(content: bytes) -> str:
    """Return a digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def to_disk(folder: Path) -> None:
    """Wait until all that is in a folder is on the disk, so that it outlives a power failure."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path):
                _fsync(path)
        _fsync(where)


def _fsync(path: str | os.PathLike) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_folder_in_place(part: Path, whole: Path) -> None:
    """Give a folder that is complete its name.

    Raises
    ------
    OSError
        If there is something of this name that is not empty.
    """
    to_disk(part)
    os.rename(part, whole)
    _fsync(whole.parent)


def put_file_in_place(part: Path, whole: Path) -> None:
    """Give a file that is complete its name."""
    _fsync(part)
    os.replace(part, whole)


def bring(source: Path, target: Path, linked: bool = True) -> None:
    """Make a file or folder appear at a second place, where it is at any time as it was or is.

    A folder is brought anew as a whole if a file of it is another, so that nothing stays of what
    was there; it is then missing for a moment.

    Parameters
    ----------
    source, target
        The places.
    linked
        Whether it will not change any more, so that links do where the disk is the same.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    one = _link if linked else _copy
    if not source.is_dir():
        one(str(source), str(target))
    elif not target.is_dir() or stamp(source) != stamp(target):
        part, old = (target.with_name(f".{target.name}.{name}") for name in ("partial", "old"))
        for left in (part, old):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        ignored = shutil.ignore_patterns(CACHE)
        shutil.copytree(source, part, copy_function=one, ignore=ignored)
        if target.exists():
            os.rename(target, old)
        os.rename(part, target)
        shutil.rmtree(old, ignore_errors=True)


def _link(source: str, target: str) -> str:
    part = _part_of(target)
    try:
        if os.path.exists(target) and os.path.samefile(source, target):
            return target
        os.link(os.path.realpath(source), part)
    except OSError:  # another disk, or one without hard links
        return _copy(source, target)
    os.replace(part, target)
    return target


def _copy(source: str, target: str) -> str:
    part = _part_of(target)
    shutil.copy2(source, part)
    os.replace(part, target)
    return target


def _part_of(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{os.getpid()}.partial")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which ends with this process, however it ends.

    Raises
    ------
    ValueError
        If another process holds it.
    """
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ValueError(
                f"{folder}: a loop runs here already ({file.read().strip() or 'it just began'}); "
                "wait for it, or end it first"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
