"""The first process of a container: start the kernel at once, then become its supervisor.

Run as ``python -I -S first.py DIRECTORY CONTROL``; ``supervisor.py`` beside it says what the two directories hold. The
kernel takes a fifth of a second to start and the supervisor a fortieth, so the kernel goes first. That is possible only
here: the system ends a container with its first process, so nothing has to be arranged for that before.

Instead of ``request.json`` it reads ``request``, for which no module has to be imported: umask, folder, the number of
folders to be checked and each one's path, device and inode, the number of words of the command, those words, and the
environment as ``NAME=VALUE``, each ended by a zero byte.
"""

from __future__ import annotations

import os
import sys

KERNEL_OOM_SCORE_ADJUSTMENT = 300


def start_kernel() -> int:
    with open("request", "rb") as file:
        umask, folder, checked, *words = file.read().split(b"\0")[:-1]
    os.unlink("request")
    checks, words = words[: 3 * int(checked)], words[3 * int(checked) :]
    count, words = int(words[0]), words[1:]
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()  # a session and process group of its own, which an interrupt goes to
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(KERNEL_OOM_SCORE_ADJUSTMENT))
        os.umask(int(umask))
        for path, device, inode in zip(checks[0::3], checks[1::3], checks[2::3], strict=True):
            found = os.stat(path)
            if (found.st_dev, found.st_ino) != (int(device), int(inode)):
                raise PermissionError(f"{path.decode(errors='replace')} is not the folder that was looked at")
        os.chdir(folder)
        argv = words[:count]
        os.execvpe(argv[0], argv, dict(pair.split(b"=", 1) for pair in words[count:]))
    except BaseException as problem:
        os.write(2, f"The kernel could not be started: {problem}\n".encode())
    os._exit(127)


def main() -> None:
    directory, control = sys.argv[1:]
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kernel = start_kernel()
    path = os.path.join(os.path.dirname(__file__), "supervisor.py")
    with open(path, "rb") as file:
        supervisor = {"__name__": "supervisor", "__file__": path}
        exec(compile(file.read(), path, "exec"), supervisor)
    supervisor["watch"](kernel, control)  # type: ignore[operator]


if __name__ == "__main__":
    main()
