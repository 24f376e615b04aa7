"""Register our models as soon as both ziggurat and timm are imported, whichever comes first.

`import ziggurat` has to stay quick and timm takes seconds, so it is not imported here: a finder
stands in front of all others, lets them find timm, and registers once they have loaded it.
"""

import sys
import warnings
from collections.abc import Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class FinderOfTimm(MetaPathFinder):
    """Finds timm as the other finders do, with a loader that also registers our models.

    It stays when timm is loaded: whoever removes timm from `sys.modules` and imports it again gets
    an empty registry, which wants filling.
    """

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load timm; None for every other module, and where timm is absent."""
        if fullname != "timm":
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if find is None or isinstance(finder, FinderOfTimm):
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _RegisteringLoader(spec.loader)
                return spec
        return None


class _RegisteringLoader(Loader):
    """Loads a module as its own loader does and then registers our models.

    Args:
        loader: The module's own loader.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the module's own loader makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, which keeps its own loader: some tools ask it for source files."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register()


def install() -> None:
    """Register now if timm is there, else when it comes; a second call changes nothing."""
    if not any(isinstance(finder, FinderOfTimm) for finder in sys.meta_path):
        sys.meta_path.insert(0, FinderOfTimm())
    if "timm" in sys.modules:
        _register()


def _register() -> None:
    try:
        from ziggurat.timm_bridge.ziggurat_models import register

        register()
    except Exception as error:  # whatever it is, timm works without our models
        warnings.warn(
            f"timm works, but ziggurat's models are not in its list ({error!r}); check that timm "
            "is 1.0.20 or newer",
            stacklevel=2,
        )
