"""Self-supervised pretraining of the small backbone on generated scenes.

Entry point: :func:`.training.pretrain`. :mod:`.recipe` contains all hyperparameters, :mod:`.corpus`
draws the training pictures, :mod:`.views` makes augmented crops of them, :mod:`.initialization`
initialises the network such that an hour of training suffices, and :mod:`.objective` defines the
loss. None of this is needed to segment images.
"""
