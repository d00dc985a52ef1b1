"""Plans that do not fit, builds that fail, and what is left of them: nothing, and a picture."""

import dataclasses
import hashlib
import os
import re
import signal

import pytest

from stylesdk.manifest import manifest_from_json

ERROR = """
    with stylizer() as it:
        assert (it.run(frame) == 255 - frame).all(), "onnxruntime draws meanwhile"
        assert it._backend.wait(60)
        for _ in range(2):
            try:
                it.run(frame)
            except stylesdk.DeviceError as error:
                text = str(error)
            else:
                raise SystemExit("no error")
        print(text)
"""
USE = """
    with stylizer() as it:
        print(settled(it) == PLAN, (it.run(frame) == 255 - frame).all())
"""
REBUILT = """
    with stylizer() as it:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            it.run(frame)
        assert len(caught) == 1, caught
        print(caught[0].message, caught[0].filename)
        assert settled(it) == PLAN and (it.run(frame) == 255 - frame).all()
"""


@pytest.mark.parametrize(
    "environment",
    [{"FAKECUDA_CC": "89"}, {"FAKECUDA_DRIVER": "12080"}],
    ids=["compute capability", "driver"],
)
def test_another_machine_is_another_key(machine, environment):
    assert machine.run(USE).stdout == "True True\n"
    assert machine.run(USE, **environment).stdout == "True True\n"
    assert len(machine.builds()) == len(list(machine.kept.glob("*.plan"))) == 2


def test_turing_gets_a_plan_of_its_own(machine):
    assert machine.run(USE, FAKECUDA_CC="75").stdout == "True True\n"
    assert b"SM75" in machine.plan.read_bytes()
    assert '"targets":["7.5"]' in machine.plan.with_name(machine.plan.name + ".json").read_text()
    assert machine.run(USE, FAKECUDA_CC="75").stdout == "True True\n"
    assert len(machine.builds()) == 1


def test_flipped_byte_is_caught_by_the_hash_and_rebuilt(machine):
    machine.run(USE)
    good = machine.plan.read_bytes()
    machine.plan.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    told = machine.run(REBUILT).stdout
    assert "SHA-256" in told and "built again" in told and told.endswith("<string>\n"), told
    assert machine.plan.read_bytes() == good and len(machine.builds()) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu": "NVIDIA T4"}, "gpu 'NVIDIA T4', not 'Fake GPU'"),
        ({"compute_capability": "8.9"}, "compute_capability '8.9', not '9.0'"),
        ({"driver": "12.4"}, "driver '12.4', not '13.0'"),
        ({"version": "1.6.0"}, "version '1.6.0', not '1.7.1.116'"),
        ({"onnx_sha256": "0" * 64}, "onnx_sha256"),
    ],
)
def test_a_sidecar_that_names_something_else_is_rebuilt_before_tensorrt_sees_the_plan(machine, change, words):
    machine.run(USE)
    sidecar = machine.plan.with_name(machine.plan.name + ".json")
    manifest = manifest_from_json(sidecar.read_text(), "it")
    # A plan that TensorRT would refuse too: the sidecar must speak first.
    plan = machine.plan.read_bytes().replace(b'{"low"', b'{"refuse": "too late", "low"')
    machine.plan.write_bytes(plan)
    engine = dataclasses.replace(manifest.engine, **change)
    sidecar.write_text(dataclasses.replace(manifest, engine=engine, sha256=hashlib.sha256(plan).hexdigest()).to_json())
    told = machine.run(REBUILT).stdout
    assert words in told and "too late" not in told, told
    assert len(machine.builds()) == 2


def test_a_kept_plan_that_tensorrt_refuses_is_rebuilt(machine):
    machine.run(USE)
    sidecar = machine.plan.with_name(machine.plan.name + ".json")
    manifest = manifest_from_json(sidecar.read_text(), "it")
    plan = machine.plan.read_bytes().replace(b'{"low"', b'{"refuse": "serialization version", "low"')
    machine.plan.write_bytes(plan)
    sidecar.write_text(dataclasses.replace(manifest, sha256=hashlib.sha256(plan).hexdigest()).to_json())
    assert "serialization version" in machine.run(REBUILT).stdout
    assert len(machine.builds()) == 2


def test_a_plan_that_nobody_has_checked_counts_as_not_there(machine):
    """As it lies when the machine went down between the build and the gate."""
    machine.run(USE)
    sidecar = machine.plan.with_name(machine.plan.name + ".json")
    sidecar.write_text(dataclasses.replace(manifest_from_json(sidecar.read_text(), "it"), quality={}).to_json())
    assert machine.run(USE).stdout == "True True\n"  # and warnings are errors there
    assert len(machine.builds()) == 2
    assert "accuracy_on_this_gpu" in sidecar.read_text()


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        (
            {"plan": {"black": 1}},
            r"style invert: differs from the ONNX file by up to 2\d\d, .* at most 8 and 0.5.*do this: ",
        ),
        ({"plan": {"off": 16}}, r"by up to 16, 0\.\d+ on average"),
        ({"plan": {"refuse": "this card"}}, r"just now.*refuses: this card.*runtime='onnxruntime'"),
        ({"plan": {"no_context": 1}}, "no execution context"),
        ({"plan": {"fail": 1}}, "kernel launch failed"),
        ({"fail": "tactic not found", "say": ""}, "failed with status 1.*tactic not found.*do this: "),
        ({"die": signal.SIGSEGV, "say": "about to crash"}, "ended by signal 11.*about to crash"),
        ({"die": signal.SIGKILL, "say": "x" * 9000 + "the end"}, "ended by signal 9.*x{1000}the end"),
    ],
    ids=["black", "off", "refused", "no context", "frame fails", "build fails", "crash", "killed"],
)
def test_no_plan_is_an_error_when_cuda_was_asked_for_and_onnxruntime_has_only_the_cpu(machine, orders, words):
    told = machine.run(ERROR, orders).stdout
    assert re.search(words, told, re.DOTALL), told
    assert machine.files() == []


def test_auto_goes_on_and_warns_once(machine):
    told = machine.run(
        """
        with stylizer("auto") as it, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for height in (48, 48, 48, 50, 50, 50):
                picture = np.zeros((height, 64, 3), np.uint8)
                assert (it.run(picture) == 255).all()
                it._backend.wait(60)
            assert "(CPU)" in it.backend and "TensorRT" not in it.backend
            assert len(caught) == 1
            print(caught[0].message)
        """,
        {"fail": "tactic not found"},
    ).stdout
    assert "tactic not found" in told and "onnxruntime 1" in told
    assert machine.files() == []


def test_a_plan_that_fails_later_is_dropped(machine):
    machine.run(
        """
        def fail(*arguments):
            raise stylesdk.DeviceError("out of memory")

        for device in ("cuda", "auto"):
            with stylizer(device) as it:
                it.run(frame)
                assert settled(it) == PLAN
                it._backend.serving.infer = fail
                for attempt in range(3):
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        try:
                            out = it.run(frame)
                        except stylesdk.DeviceError as error:
                            assert "out of memory" in str(error) and (device == "cuda" or attempt == 0)
                        else:
                            assert device == "auto" and (out == 255 - frame).all()
                            assert len(caught) == (attempt == 1) and "(CPU)" in it.backend
        """
    )
    assert len(machine.builds()) == 1, "the plan in the cache is not to blame"


def test_a_model_that_changes_after_it_was_opened_is_not_built(machine):
    change = "with stylizer() as it:\n        open(os.environ['MODEL'], 'ab').write(b'x')"
    told = machine.run(ERROR.replace("with stylizer() as it:", change)).stdout
    assert "changed after it was opened" in told
    assert machine.builds() == [] and machine.files() == []


def test_a_builder_that_hangs_is_ended(machine):
    told = machine.run(
        "    import stylesdk.engines.build as build\n    build._LONGEST = 3.0\n" + ERROR, {"hang": 600}
    ).stdout
    assert "ended by signal 15" in told
    assert machine.files() == []
    assert not any(os.path.exists(f"/proc/{child}") for child in machine.builds())
