# A program that was built on the host, static: what `cargo xtask images` makes images of.
FROM scratch
ARG PROGRAM
COPY ${PROGRAM} /program
USER 65532:65532
ENTRYPOINT ["/program"]
