#include "commands/commands.hpp"
#include "commands/golden.hpp"
#include "commands/report.hpp"

namespace prunekit {

int check(const Options& options) {
    std::optional<Contract> contract;
    if (options.contract) contract = readContract(*options.contract);
    const Golden golden = loadGolden(*options.golden);
    Engine engine(options.engine);
    const Agreement agreement = compare(golden, engine, contract);
    const bool passed = passes(agreement, options.minAgreement);
    Report report = reportOf(options.engine, engine);
    report["max_abs_error"] = orNull(agreement.maxAbsError);
    report["max_abs_logit"] = agreement.maxAbsLogit;
    report["label_agreement"] = agreement.labelAgreement;
    report["preprocessing_max_abs_error"] = orNull(agreement.preprocessingMaxAbsError);
    report["min_agreement"] = options.minAgreement;
    report["passed"] = passed;
    print(report);
    return passed ? 0 : 1;
}

}  // namespace prunekit
