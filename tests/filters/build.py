#!/usr/bin/env python3
"""Builds the Go filters of this folder, and those of examples/filters, into shared libraries, once per content.

    from build import build
    path = build("basic")                  # build/filters/basic-1.33-<key>.so
    path = build("basic", sdk="1.31")

The file's name holds a hash of the sources, the Go version and the SDK, so a
library that exists is right, and a second call needs neither time nor network.
On the command line: build.py [NAME|all] [SDK|all], prints one path per line.

The Go command is $SLUICE_GO, else `go` on PATH.
"""

import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent.parent / "build" / "filters"

LIBRARIES = ("basic", "config", "gcloop", "heap", "network")
EXAMPLES = HERE.parent.parent / "examples" / "filters"  # a module of its own, on the newest SDK

# For each SDK: the module file that requires it, and the build tag for sources
# that must differ from those for the newest.
SDKS = {
    "1.31": ("go.v131.mod", "sdk131"),
    "1.32": ("go.v132.mod", "sdk132"),
    "1.33": ("go.mod", ""),
}


def go_command():
    return os.environ.get("SLUICE_GO", "go")


def build(name, sdk="1.33", strip=False, copy="", experiment="", tells_configs=False):
    """Returns the path of a library, building it if need be.

    strip  leaves out the symbol table and debug information, as releases do
    copy   any text: each gives a file of its own, which the dynamic loader takes
           for a library of its own, with a Go runtime of its own
    experiment  a GOEXPERIMENT, for which all of Go is compiled anew: that takes minutes
    tells_configs  with an SDK that calls Destroy of configurations that have it, as none of ours does
    """
    if name not in LIBRARIES:
        raise ValueError(f"no such library: {name}")
    modfile, tag = SDKS[sdk]
    flags = ["-buildmode=c-shared", "-buildvcs=false", f"-modfile={modfile}"]
    if tag:
        flags += ["-tags", tag]
    if strip:
        flags += ["-ldflags", "-s -w"]

    key = _key(name, modfile, flags)
    extra = ("-stripped" if strip else "") + (f"-{copy}" if copy else "")
    extra += f"-{experiment}" if experiment else ""
    extra += "-tells" if tells_configs else ""
    target = OUT / f"{name}-{sdk}{extra}-{key}.so"
    if target.exists():
        return target
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / f".{name}-{sdk}{extra}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes may want it at once
        if not target.exists():
            part = target.with_suffix(".part.so")
            if copy:
                part.write_bytes(build(name, sdk, strip).read_bytes())
            else:
                if tells_configs:
                    flags = [*flags, f"-modfile={_telling_modfile(modfile)}"]
                _run_go(name, flags, part, experiment=experiment)
            part.rename(target)
    return target


def _telling_modfile(modfile):
    """A module file with a copy of the SDK that has one line more where it drops a configuration."""
    package = "github.com/envoyproxy/envoy"
    listing = [go_command(), "list", "-m", f"-modfile={modfile}", "-f", "{{.Dir}}", package]
    sdk = subprocess.run(listing, check=True, cwd=HERE, text=True, stdout=subprocess.PIPE).stdout.strip()
    copy = OUT / f"telling-{modfile}"
    shutil.copytree(f"{sdk}/contrib/golang", copy / "contrib/golang", dirs_exist_ok=True, copy_function=shutil.copy)
    shutil.copy(f"{sdk}/go.mod", copy)
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # in the cache they are read-only
    config = copy / "contrib/golang/filters/http/source/go/pkg/http/config.go"
    before, dropping, behind = config.read_text().rpartition("\t\tconfigCache.Delete(id)\n")
    assert dropping, f"{config} drops configurations in another way than we know"
    told = "\t\tconfig, _ := configCache.Load(id)\n"
    told += "\t\tif it, ok := config.(interface{ Destroy() }); ok {\n\t\t\tit.Destroy()\n\t\t}\n"
    config.write_text(before + told + dropping + behind)
    telling = copy / "tests.mod"
    telling.write_text((HERE / modfile).read_text() + f"\nreplace {package} => {copy}\n")
    shutil.copy((HERE / modfile).with_suffix(".sum"), copy / "tests.sum")
    return telling


def build_examples():
    """Returns the path of the library with all of examples/filters."""
    digest = hashlib.sha256(_version_of(go_command()).encode())
    for path in sorted([*EXAMPLES.glob("go.*"), *EXAMPLES.rglob("*.go")]):
        digest.update(f"\0{path.relative_to(EXAMPLES)}\0".encode())
        digest.update(path.read_bytes())
    target = OUT / f"examples-{digest.hexdigest()[:16]}.so"
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / ".examples.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part.so")
            _run_go(".", ["-buildmode=c-shared", "-buildvcs=false"], part, folder=EXAMPLES)
            part.rename(target)
    return target


def _key(name, modfile, flags):
    digest = hashlib.sha256()
    digest.update(_version_of(go_command()).encode())
    digest.update("\0".join(flags).encode())
    files = [HERE / modfile, (HERE / modfile).with_suffix(".sum")]
    for folder in (HERE / name, HERE / "internal"):
        files += sorted(folder.rglob("*.go"))
    for path in files:
        digest.update(f"\0{path.relative_to(HERE)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _version_of(go):
    return subprocess.run([go, "version"], check=True, cwd=HERE, text=True, stdout=subprocess.PIPE).stdout


def _run_go(name, flags, output, folder=HERE, experiment=""):
    env = dict(os.environ, CGO_ENABLED="1")
    if experiment:
        env["GOEXPERIMENT"] = experiment
    done = subprocess.run(
        [go_command(), "build", *flags, "-o", str(output), f"./{name}"],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output.with_suffix(".h").unlink(missing_ok=True)  # c-shared writes a header beside it
    if done.returncode != 0:
        output.unlink(missing_ok=True)
        raise RuntimeError(f"go build of {name} failed:\n{done.stdout}")


def main(arguments):
    names = LIBRARIES if arguments[:1] in ([], ["all"]) else arguments[:1]
    sdks = SDKS if arguments[1:2] in ([], ["all"]) else arguments[1:2]
    for name in names:
        for sdk in sdks:
            print(build(name, sdk), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
