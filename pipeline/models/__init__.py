"""The models in torch, one reading each; `layout` names their weights and gives the initial values."""
