"""Our classifiers as models of timm, and so for every tool that takes those.

`import ziggurat` is all a user does; `docs/timm.md` says what works. In the order of what happens:
`hook.py` waits for timm, `ziggurat_models.py` registers names, `build.py` answers
`timm.create_model`, `classifier.py` is what it returns, `families.py` says what the families
answer differently, `weights.py` gives official files our names.
"""
