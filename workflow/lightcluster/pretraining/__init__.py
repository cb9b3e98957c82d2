"""Self-supervised training of the small backbone, on generated scenes and without labels.

Entry point: :func:`.training.pretrain`. :mod:`.recipe` holds every number that decides the
outcome; :mod:`.corpus` draws the scenes, :mod:`.views` crops and recolours them,
:mod:`.initialization` gives the network a start from which it learns in an hour, and
:mod:`.objective` is what it learns. Nothing of this is needed to segment images.
"""
