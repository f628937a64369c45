"""Token files: from clean documents to flat uint16 files.

In: corpora. Out: results/tokens/<tokens>/meta.json, with tokenizer.json, train.bin, test.bin and transfer-<corpus>.bin
beside it. Steps: train a tokenizer on a sample of the training documents, tokenize, shuffle and split. Tokenization that
is killed goes on after its last whole file of documents (in results/scratch/tokens).
"""


rule train_tokenizer:
    """Train the tokenizer on training documents."""
    input:
        documents=train_documents,
    output:
        "results/tokens/{tokens}/tokenizer.json",
    log:
        "logs/train_tokenizer/{tokens}.log",
    benchmark:
        "logs/train_tokenizer/{tokens}.jsonl"
    conda:
        "../environment.yml"
    threads: 16
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        corpora=train_corpora,
        spec=tokens_spec_json,
    shell:
        """
        RAYON_NUM_THREADS={threads} python -m pipeline.tokens.tokenizer \
            --documents {params.corpora:q} \
            --spec {params.spec:q} \
            --output {output:q} \
            2>{log:q}
        """


rule tokenize:
    """Tokenize, shuffle and split every corpus of a data set."""
    input:
        train=train_documents,
        transfer=transfer_documents,
        tokenizer="results/tokens/{tokens}/tokenizer.json",
    output:
        "results/tokens/{tokens}/meta.json",
    log:
        "logs/tokenize/{tokens}.log",
    benchmark:
        "logs/tokenize/{tokens}.jsonl"
    conda:
        "../environment.yml"
    threads: 16
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        train=train_corpora,
        transfer=transfer_corpora,
        spec=tokens_spec_json,
    shell:
        """
        RAYON_NUM_THREADS={threads} python -m pipeline.tokens \
            --tokenizer {input.tokenizer:q} \
            --train {params.train:q} \
            --transfer {params.transfer:q} \
            --spec {params.spec:q} \
            --scratch results/scratch/tokens/{wildcards.tokens} \
            --output {output:q} \
            2>{log:q}
        """
