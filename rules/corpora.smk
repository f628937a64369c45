"""Corpora: from a source to clean documents.

In: a corpus's part of the config; the network for the kinds hub and wheel; own text for the kind files, and for hub where
its name is a folder: what is in these files is part of the corpus's id. Out: results/corpora/<corpus>/meta.json, with the
documents beside it in documents-<number>.parquet. Steps: download (wheels are kept in results/downloads), clean, drop
repeats. A corpus that is killed goes on after its last whole file of documents. The code is no input: a change of
its meaning raises `RECIPE` in pipeline/plan/experiment.py, which moves the ids of corpora, tokens and runs.
"""


rule fetch_corpus:
    """Fetch and clean the documents of one corpus."""
    output:
        "results/corpora/{corpus}/meta.json",
    log:
        "logs/fetch_corpus/{corpus}.log",
    benchmark:
        "logs/fetch_corpus/{corpus}.jsonl"
    conda:
        "../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        name=corpus_name,
        spec=corpus_spec_json,
    shell:
        """
        python -m pipeline.corpora \
            --name {params.name:q} \
            --spec {params.spec:q} \
            --downloads results/downloads \
            --output {output:q} \
            2>{log:q}
        """
