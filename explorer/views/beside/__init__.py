"""The tabs of "Side by side": trained networks on one image and on the test set, and where in depth they part."""
