# SPDX-License-Identifier: Apache-2.0
"""Images from Dockerfiles: what is copied, installed and configured, and what a failing build says."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import pytest
from gcp_sandbox.backends import dockerfile
from gcp_sandbox.backends.dockerfile import Ignore
from gcp_sandbox.backends.images import BuildError, Environment, ImageStore, Reference, extract
from gcp_sandbox.store import Store

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"FROM python:{OWN}-slim\n"
REF = "europe-west1-docker.pkg.dev/p/r/app:v1"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GCP_SANDBOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path):
    store = ImageStore(
        SimpleNamespace(store=Store(tmp_path / "db"), settings=SimpleNamespace(state=tmp_path / "state"))
    )
    store.start()
    return store


@pytest.fixture
def build(images, tmp_path):
    """Build a context of {name: text}. `build.log` has the lines of the last build."""

    def run(files, **more):
        run.log = []
        context = tmp_path / f"context{len(list(tmp_path.iterdir()))}"
        for name, text in files.items():
            file = context / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return images.build(context, log=run.log.append, **more)

    return run


@pytest.fixture
def wheel(tmp_path):
    """A folder with a wheel of the package `greeting`, so that pip has something to install without a network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "greeting-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("greeting.py", "WORD = 'salut'\n")
        info = "greeting-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return folder


def files_of(image):
    return sorted(p.relative_to(image.root).as_posix() for p in image.root.rglob("*") if p.is_file())


class TestRunning:
    def test_a_process_of_the_image(self, build, wheel):
        program = "import greeting, os, sys\nprint(greeting.WORD, os.environ['NAME'], sys.argv[1:], os.getcwd())\n"
        image = build(
            {
                "Dockerfile": BASE + f"WORKDIR /app\nCOPY requirements.txt .\n"
                f"RUN pip install --no-cache-dir --no-index --find-links {wheel} -r requirements.txt && echo done\n"
                'COPY main.py .\nENV NAME="a b"\nEXPOSE 8080\nENTRYPOINT ["python", "/app/main.py"]\nCMD ["serve"]\n',
                "requirements.txt": "greeting==1.0\n",
                "main.py": program,
            }
        )
        done = subprocess.run(image.argv(), env=image.env, cwd=image.workdir, capture_output=True, text=True)
        assert done.stdout == f"salut a b ['serve'] {image.root}/app\n", done.stderr
        assert image.exposed_port == 8080
        assert list(image.venv.glob("lib/python*/site-packages/__pycache__/greeting*.pyc"))

    def test_command_and_arguments_as_cloud_run_replaces_them(self, build):
        image = build({"Dockerfile": BASE + 'ENTRYPOINT ["python", "-c"]\nCMD ["1"]\n'})
        python = str(image.venv / "bin" / "python")
        assert image.argv() == [python, "-c", "1"]
        assert image.argv(args=["2"]) == [python, "-c", "2"]
        assert image.argv(command=["python"]) == [python]
        assert image.argv(command=["python"], args=["3"]) == [python, "3"]

    def test_shell_form(self, build):
        image = build({"Dockerfile": BASE + "ENV NAME=you\nCMD echo hello $NAME\n"})
        assert subprocess.run(image.argv(), env=image.env, capture_output=True, text=True).stdout == "hello you\n"

    def test_a_script_that_run_made_executable(self, build):
        image = build(
            {
                "Dockerfile": BASE + 'COPY start.sh start.sh\nRUN chmod +x start.sh\nENTRYPOINT ["./start.sh"]\n',
                "start.sh": "#!/bin/sh\necho started\n",
            }
        )
        done = subprocess.run(image.argv(), env=image.env, cwd=image.workdir, capture_output=True, text=True)
        assert done.stdout == "started\n"

    def test_paths_are_read_in_the_image_where_they_exist_there(self, build):
        image = build(
            {
                "Dockerfile": BASE + "COPY a /etc/mine\nENV CONFIG=/etc/mine OTHER=/etc/hosts URL=gs://etc/mine\n",
                "a": "",
            }
        )
        assert image.env["CONFIG"] == f"{image.root}/etc/mine"
        assert image.env["OTHER"] == "/etc/hosts"
        assert image.env["URL"] == "gs://etc/mine"


class TestIdentity:
    def test_the_digest_is_of_the_content(self, build):
        files = {"Dockerfile": BASE + "COPY a /a\n", "a": "1"}
        first = build(files)
        assert build(files).digest == first.digest
        assert build({**files, "a": "2"}).digest != first.digest
        assert build({**files, "Dockerfile": files["Dockerfile"] + "ENV X=1\n"}).digest != first.digest

    def test_an_environment_is_made_once(self, build, wheel):
        line = f"RUN pip install --no-index -f {wheel} greeting\n"
        first = build({"Dockerfile": BASE + line})
        second = build({"Dockerfile": BASE + line + "COPY a /a\n", "a": ""})
        assert first.venv == second.venv and first.digest != second.digest
        assert any("Using cached environment" in text for text in build.log)

    def test_a_changed_requirements_file_is_another_environment(self, build, wheel):
        (wheel / "r.txt").write_text("")
        text = BASE + f"COPY r.txt .\nRUN pip install --no-index -f {wheel} -r r.txt\n"
        one = build({"Dockerfile": text, "r.txt": "greeting\n"})
        two = build({"Dockerfile": text, "r.txt": "greeting==1.0\n"})
        assert one.venv != two.venv

    def test_what_a_crash_left_half_made_is_made_again(self, build, wheel):
        line = f"RUN pip install --no-index -f {wheel} greeting\n"
        image = build({"Dockerfile": BASE + line})
        (image.venv / ".complete").unlink()
        next(image.venv.glob("lib/*/site-packages/greeting.py")).unlink()
        again = build({"Dockerfile": BASE + line})
        assert list(again.venv.glob("lib/*/site-packages/greeting.py"))

    def test_builds_side_by_side_share_the_work(self, build, images, wheel, tmp_path):
        context = tmp_path / "side"
        context.mkdir()
        (context / "Dockerfile").write_text(BASE + f"RUN pip install --no-index -f {wheel} greeting\n")
        logs = [[], []]
        found = [None, None]

        def one(number):
            found[number] = images.build(context, log=logs[number].append).digest

        threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] == found[1] is not None
        assert sum("Using cached environment" in " ".join(log) for log in logs) == 1

    def test_an_environment_whose_cache_was_emptied_comes_back(self, build, images, wheel):
        image = build({"Dockerfile": BASE + f"RUN pip install --no-index -f {wheel} greeting\n"})
        images.tag(REF, image.digest)
        subprocess.run(["rm", "-rf", image.venv], check=True)
        assert list(images.resolve(REF).venv.glob("lib/*/site-packages/greeting.py"))


class TestCopy:
    def paths(self, build, instructions, *names, **special):
        return files_of(build({"Dockerfile": BASE + instructions, **dict.fromkeys(names, "x"), **special}))

    def test_file_to_file_and_file_to_folder(self, build):
        assert self.paths(build, "COPY a /x/b\nCOPY a /y/\nWORKDIR /z\nCOPY a .\n", "a") == ["x/b", "y/a", "z/a"]

    def test_a_folder_gives_its_content(self, build):
        assert self.paths(build, "COPY src /app\n", "src/a", "src/b/c") == ["app/a", "app/b/c"]

    def test_wildcards_and_several_sources(self, build):
        assert self.paths(build, "COPY *.py c.txt /app/\n", "a.py", "b.py", "c.txt", "d/e.py") == [
            *("app/a.py", "app/b.py", "app/c.txt"),
        ]

    def test_json_form_with_spaces_in_names(self, build):
        assert self.paths(build, 'COPY ["a b", "/c d"]\n', "a b") == ["c d"]

    def test_the_dockerignore_file(self, build):
        ignore = "# comment\n*\n!src\nsrc/**/*.log\n!src/keep.log\n"
        copied = self.paths(
            build, "COPY . /\n", "a", "src/b", "src/c.log", "src/d/e.log", "src/keep.log", **{".dockerignore": ignore}
        )
        assert copied == ["src/b", "src/keep.log"]

    def test_from_another_stage(self, build):
        text = f"FROM python:{OWN} AS first\nCOPY a /made\n{BASE}COPY --from=first /made /kept\n"
        assert files_of(build({"Dockerfile": text, "a": "x"})) == ["kept"]

    def test_a_stage_on_a_stage_and_a_target(self, build):
        text = f"FROM python:{OWN} AS one\nCOPY a /a\nFROM one AS two\nCOPY b /b\n"
        files = {"Dockerfile": text, "a": "", "b": ""}
        assert files_of(build(files)) == ["a", "b"]
        assert files_of(build(files, target="one")) == ["a"]

    def test_on_an_image_of_the_registry(self, build, images):
        base = build({"Dockerfile": BASE + "WORKDIR /app\nCOPY a .\nENV A=1\n", "a": ""})
        images.tag(REF, base.digest)
        image = build({"Dockerfile": f"FROM {REF}\nCOPY b .\n", "b": ""})
        assert files_of(image) == ["app/a", "app/b"] and image.env["A"] == "1"

    def test_mode(self, build):
        image = build({"Dockerfile": BASE + "COPY --chmod=755 a /a\n", "a": ""})
        assert (image.root / "a").stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize(
        "line,words",
        [
            ("COPY missing /", "stat missing: file does not exist"),
            ("COPY ../secret /", "forbidden path outside the build context"),
            ("COPY a b /c", "must be a directory and end with a /"),
            ("COPY a", "requires at least two arguments"),
            ("COPY --from=nowhere a /", "no such build stage"),
            ("ADD https://example.com/x /x", "neither downloads nor unpacks"),
        ],
    )
    def test_what_cannot_be_copied(self, build, line, words):
        with pytest.raises(BuildError, match=words):
            build({"Dockerfile": BASE + line + "\n", "a": "", "b": ""})
        assert build.log[-1].startswith("ERROR: ")

    def test_an_archive_cannot_write_outside(self, images, tmp_path):
        archive = tmp_path / "c.tar"
        (tmp_path / "f").write_text("x")
        with tarfile.open(archive, "w") as tar:
            tar.add(tmp_path / "f", "../../escaped")
        with pytest.raises(BuildError, match="archive"):
            images.build(archive)
        assert not list(tmp_path.rglob("escaped"))


class TestInstructions:
    def test_arguments_and_variables(self, build):
        text = (
            f"ARG VERSION={OWN}\nFROM python:${{VERSION}}\nARG VERSION\nARG NAME=unknown\n"
            "ENV A=$NAME B=\"${NAME}-${NONE:-default}\" C='$NAME' PATH=/opt/bin:$PATH\nLABEL name=${NAME:+known} \\\n"
            "  # a comment in between\n  version=$VERSION\n"
        )
        image = build({"Dockerfile": text}, build_args={"NAME": "me", "UNUSED": "x"})
        assert (image.env["A"], image.env["B"], image.env["C"]) == ("me", "me-default", "$NAME")
        assert f"{image.venv}/bin:/opt/bin:/usr/local/sbin" in image.env["PATH"]
        assert image.config["Labels"] == {"name": "known", "version": OWN}
        assert any("['UNUSED'] were not consumed" in line for line in build.log)

    def test_what_is_not_executed_is_said(self, build):
        build({"Dockerfile": BASE + "RUN apt-get update && apt-get install -y libpq5\nVOLUME /data\n"})
        assert " ---> Not executed in the sandbox: apt-get install -y libpq5" in build.log
        assert " ---> VOLUME has no effect in the sandbox" in build.log

    def test_another_python_is_used_or_its_absence_said(self, build):
        image = build({"Dockerfile": "FROM python:3.7-slim\n"})
        assert any("Python 3.7" in line for line in build.log) or image.venv.exists()
        log = " ".join(build.log)
        assert "there is no Python 3.7 here" in log or "Python 3.7 of this machine" in log

    @pytest.mark.parametrize(
        "text,words",
        [
            ("", "cannot be empty"),
            ("RUN x\n", "no build stage"),
            (BASE + "FLY\n", "unknown instruction: FLY"),
            (BASE + "COPY\n", "requires at least one argument"),
            (BASE + "ENV A\n", "must have two arguments"),
            (BASE + "EXPOSE web\n", "invalid containerPort"),
            (BASE + "RUN <<EOF\nx\nEOF\n", "here-documents"),
            ("FROM debian:12\n", "pull access denied for debian:12"),
            (BASE + "RUN pip install -r none.txt\n", "Could not open requirements file"),
            (BASE + "RUN pip install --frobnicate x\n", "does not know the option --frobnicate"),
        ],
    )
    def test_errors(self, build, text, words):
        with pytest.raises(BuildError, match=words):
            build({"Dockerfile": text})
        assert build.log[-1].startswith("ERROR: ")

    def test_a_missing_dockerfile(self, build):
        with pytest.raises(BuildError, match="lstat Dockerfile: no such file or directory"):
            build({"a": ""})

    def test_a_failing_installation_shows_what_pip_says(self, build, wheel):
        with pytest.raises(BuildError, match="returned a non-zero code: 1"):
            build({"Dockerfile": BASE + f"RUN pip install --no-index -f {wheel} greeting==9.9\n"})
        assert any("greeting==9.9" in line and "no version" in line for line in build.log), build.log

    def test_a_cancelled_installation_ends(self, build, wheel):
        with pytest.raises(BuildError, match="cancelled"):
            build({"Dockerfile": BASE + f"RUN pip install --no-index -f {wheel} greeting\n"}, cancelled=lambda: True)

    def test_requirements_that_include_others(self, build, wheel):
        image = build(
            {
                "Dockerfile": BASE + f"WORKDIR /app\nCOPY . .\nRUN pip install --no-index -f {wheel} -r deps/all.txt\n",
                "deps/all.txt": "-r some.txt\n",
                "deps/some.txt": "greeting\n",
            }
        )
        assert list(image.venv.glob("lib/*/site-packages/greeting.py"))


class TestReferences:
    @pytest.mark.parametrize(
        "text,parts",
        [
            (REF, ("europe-west1-docker.pkg.dev/p/r", "app", "v1", "")),
            (
                "us-docker.pkg.dev/example.com/p-1/r/a/b:v1",
                ("us-docker.pkg.dev/example.com/p-1/r", "a/b", "v1", ""),
            ),
            ("us-docker.pkg.dev/p/r/a/b", ("us-docker.pkg.dev/p/r", "a/b", "latest", "")),
            (f"{REF}@sha256:{'a' * 64}", ("europe-west1-docker.pkg.dev/p/r", "app", "v1", f"sha256:{'a' * 64}")),
        ],
    )
    def test_parse(self, text, parts):
        found = Reference.parse(text)
        assert (found.repository, found.image, found.tag, found.digest) == parts

    @pytest.mark.parametrize(
        "text",
        [
            "app",
            "docker.io/library/python:3",
            "gcr.io/p/app",
            "us-docker.pkg.dev/p/r",
            "us-docker.pkg.dev/a.b:p/r/app",
            "x/Y",
        ],
    )
    def test_not_in_artifact_registry(self, text):
        assert Reference.parse(text) is None

    def test_tags_and_digests(self, build, images):
        old, new = build({"Dockerfile": BASE}), build({"Dockerfile": BASE + "ENV A=1\n"})
        images.tag(REF, old.digest)
        images.tag(REF, new.digest)
        name = REF.partition(":")[0]
        assert images.resolve(REF).digest == new.digest
        assert images.resolve(f"{name}@{old.digest}").digest == old.digest
        assert {v.digest: v.tags for v in images.versions(name)} == {old.digest: [], new.digest: ["v1"]}
        assert images.resolve(f"{name}:none") is None
        assert images.delete(name, new.digest)
        assert images.resolve(REF) is None and images.names("europe-west1-docker.pkg.dev/p/r") == ["app"]

    def test_a_digest_is_found_only_where_it_was_pushed(self, build, images):
        image = build({"Dockerfile": BASE})
        images.tag(REF, image.digest)
        assert images.resolve(f"us-docker.pkg.dev/p/other/app@{image.digest}") is None

    def test_bad_pushes(self, build, images):
        image = build({"Dockerfile": BASE})
        with pytest.raises(ValueError, match="invalid reference"):
            images.tag("gcr.io/p/app", image.digest)
        with pytest.raises(LookupError):
            images.tag(REF, f"sha256:{'0' * 64}")

    @pytest.mark.parametrize("text", ["gcr.io/cloudrun/hello", "us-docker.pkg.dev/cloudrun/container/hello:latest"])
    def test_the_sample_image(self, images, text):
        image = images.resolve(text)
        assert image.exposed_port == 8080 and image.argv()[-1] == "serve"

    def test_the_sample_job_ends(self, images):
        image = images.resolve("us-docker.pkg.dev/cloudrun/container/job")
        done = subprocess.run(image.argv(), env=image.env, capture_output=True, text=True)
        assert done.returncode == 0 and "Completed task #0" in done.stdout


@pytest.mark.parametrize(
    "pattern,path,ignored",
    [
        ("*.md", "README.md", True),
        ("*.md", "docs/a.md", False),
        ("**/*.md", "docs/x/a.md", True),
        ("**/*.md", "a.md", True),
        ("docs", "docs/x/a.md", True),
        ("/docs/", "docs/a", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].txt", "b.txt", True),
        ("*\n!keep", "keep/it", False),
        ("!keep\n*", "keep", True),
    ],
)
def test_ignore(pattern, path, ignored):
    assert Ignore(pattern)(path) is ignored


def test_a_python_that_is_named_in_full():
    assert Environment("3.11").key != Environment("3.12").key


def test_parsing_keeps_line_numbers():
    found = dockerfile.parse("# syntax=docker/dockerfile:1\n\nFROM a \\\n  # why\n  AS b\nRUN c\n")
    assert [(i.name, i.line) for i in found] == [("FROM", 3), ("RUN", 6)]
    assert found[0].text.split() == ["a", "AS", "b"]


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("/etc/outside", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "../../outside"),
        ("hard", tarfile.LNKTYPE, "../outside"),
        ("device", tarfile.CHRTYPE, ""),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_an_archive_writes_nothing_outside_the_context(tmp_path, monkeypatch, name, kind, link, old):
    """Also with a Python without filters in tarfile, such as Debian 12's."""
    if old:
        monkeypatch.delattr(tarfile, "data_filter")
    archive = tmp_path / "context.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
    if name.startswith("/") and not old:
        extract(archive, tmp_path / "context")  # the filter strips the leading slash
    else:
        with pytest.raises(BuildError):
            extract(archive, tmp_path / "context")
    assert not (tmp_path / "outside").exists()


def test_an_ordinary_archive_is_unpacked_by_an_old_python(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    archive = tmp_path / "context.tar"
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "run.sh", "bin/run.sh")
    unpacked = extract(archive, tmp_path / "context")
    assert (unpacked / "bin" / "run.sh").stat().st_mode & 0o111
