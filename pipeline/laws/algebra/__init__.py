"""The paper's algebra: what follows from fitted laws (Eq 5.4 to 5.7, 6.8 and Appendix B)."""
