"""The house's rules that a machine can check (docs/architecture.md)."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mimix_ray"
STAGES = ("clips", "captions", "composites", "latents", "training", "generation", "evaluation", "serving")
RAY_FILES = ("stage.py", "actors.py", "trainer.py", "deployments.py")
SHARED = ("config", "universe", "prompts", "storage", "tables", "video", "run", "vlm", "backbone")
SHARED += ("marked", "synthesis", "stage")


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_ray_stays_at_the_edges():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in RAY_FILES:
            assert not [name for name in imports(path) if name.split(".")[0] == "ray"], path


def test_stages_do_not_import_each_other():
    for path in PACKAGE.rglob("*.py"):
        if room(path) in STAGES:
            for other in set(STAGES) - {room(path)}:
                assert not [name for name in imports(path) if f"{name}.".startswith(f"mimix_ray.{other}.")], (
                    path,
                    other,
                )


def test_what_stages_share_knows_no_stage():
    for path in PACKAGE.rglob("*.py"):
        if room(path) in SHARED:
            for stage in (*STAGES, "miniature"):
                assert not [name for name in imports(path) if f"{name}.".startswith(f"mimix_ray.{stage}.")], (
                    path,
                    stage,
                )


def test_only_the_miniature_knows_the_miniature():
    for path in PACKAGE.rglob("*.py"):
        if room(path) != "miniature":
            assert not [name for name in imports(path) if name.startswith("mimix_ray.miniature")], path


def test_every_stage_has_one_door():
    for stage in set(STAGES) - {"serving"}:
        tree = ast.parse((PACKAGE / stage / "stage.py").read_text())
        runs = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
        assert len(runs) == 1, stage
        assert [argument.arg for argument in runs[0].args.args] == ["run"], stage
